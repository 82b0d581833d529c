"""Environments: aligned rows, reproducible seeds, correct images."""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

import worldmodel
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import adopt, check_env, gl, make_env, render, suite, tasks, warp
from worldmodel.envs.settings import EnvSettings
from worldmodel.structs import Spec, Step

WARP = EnvSettings(renderer="warp")


class Counter:
    """Paints the number of its steps and records its actions; bounds are [-2, 6] and [0, 1]."""

    def __init__(self, last=5):
        self.action_low = np.array([-2.0, 0.0])
        self.action_high = np.array([6.0, 1.0])
        self.last = last
        self.asked = []

    def row(self, **fields):
        image = np.full((16, 16, 3), len(self.asked), np.uint8)
        return Step(image=image, is_last=len(self.asked) == self.last, **fields)

    def reset(self):
        self.asked = []
        return self.row()

    def step(self, action):
        self.asked.append(action)
        return self.row(reward=float(action[0]))


class SeededCounter(Counter):
    def reset(self, seed=None):
        self.seed = seed
        return super().reset()


# --- anybody's environment ---------------------------------------------------------------------


def test_a_row_holds_the_action_that_was_done_and_what_came_back():
    env = adopt(Counter())
    first = env.reset()
    assert first.action.tolist() == [0, 0]
    assert (first.reward, first.env_steps, first.image.max()) == (0, 0, 0)
    row = env.step(np.array([0.5, -1.0]))
    assert row.action.tolist() == [0.5, -1.0]
    assert (row.reward, row.env_steps, row.image.max()) == (4.0, 1, 1)


def test_actions_are_scaled_to_the_bounds_of_the_environment():
    inner = Counter()
    env = adopt(inner)
    env.reset()
    for action in ([-1, -1], [0, 0], [1, 1]):
        env.step(np.array(action))
    assert np.array(inner.asked).tolist() == [[-2, 0], [2, 0.5], [6, 1]]
    assert env.action_low.tolist() == [-1, -1]
    assert env.action_high.tolist() == [1, 1]


def test_an_action_beyond_the_bounds_is_clipped_and_the_row_holds_the_clipped_one():
    inner = Counter()
    env = adopt(inner)
    env.reset()
    row = env.step(np.array([7.0, -3.0]))
    assert inner.asked[0].tolist() == [6, 0]
    assert row.action.tolist() == [1, -1]


def test_the_row_holds_the_action_that_a_robot_reports_in_the_units_of_the_agent():
    class Timid(Counter):
        def step(self, action):
            return replace(super().step(action), action=np.array([2.0, 0.25]))

    env = adopt(Timid())
    env.reset()
    assert env.step(np.array([1.0, 1.0])).action.tolist() == [0, -0.5]


def test_an_invalid_action_is_refused():
    env = adopt(Counter())
    env.reset()
    with pytest.raises(ValueError, match=r"action: expected shape \(2,\), got \(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="action: expected finite numbers"):
        env.step(np.array([0.0, np.nan]))


def test_a_seed_reaches_the_environments_that_take_one():
    env, unseeded = SeededCounter(), Counter()
    adopt(env).reset(seed=7)
    adopt(unseeded).reset(seed=7)
    assert env.seed == 7


def test_adopting_twice_scales_once():
    env = adopt(Counter())
    assert adopt(env) is env


def test_a_sound_environment_passes_the_check():
    check_env(Counter())
    check_env(adopt(SeededCounter()))
    check_env(make_env("toy"))


def painted(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def broken(change, **faces):
    """A Counter whose rows go through ``change(row, number)``."""

    class Broken(Counter):
        def row(self, **fields):
            return change(super().row(**fields), len(self.asked))

    env = Broken()
    for name, value in faces.items():
        setattr(env, name, value)
    return env


def always(**fields):
    return broken(lambda row, number: replace(row, **fields))


def later(**fields):
    return broken(lambda row, number: replace(row, **fields) if number else row)


def test_the_check_misses_bounds():
    env = Counter()
    del env.action_low, env.action_high
    with pytest.raises(ValueError, match="action_low: Counter has none") as caught:
        check_env(env)
    assert "action_high: Counter has none" in str(caught.value)


def test_the_check_misses_methods():
    with pytest.raises(ValueError, match="reset: object has no such method"):
        check_env(object())


DEFECTS = {
    "action_high: expected more than action_low": broken(
        lambda row, number: row, action_high=np.array([-2.0, 1.0])
    ),
    "action_high: expected the shape of action_low": broken(
        lambda row, number: row, action_high=np.ones(3)
    ),
    "action_low: expected finite numbers": broken(
        lambda row, number: row, action_low=np.array([-np.inf, 0.0])
    ),
    "reset: image: expected uint8 .*float32": always(image=np.zeros((4, 6, 3), np.float32)),
    "image: expected uint8 .*4, 6": always(image=np.zeros((4, 6), np.uint8)),
    "image: expected a numpy array, got list": always(image=[0]),
    "wrist: expected uint8 .*float64": always(image={"wrist": np.zeros((4, 6, 3))}),
    "image: expected images by the names of their cameras": always(image={}),
    "image: expected image as in the first row; got wrist": later(
        image={"wrist": painted(4, 6, 3)}
    ),
    "vectors: wrist is a camera's name": always(
        image={"wrist": painted(4, 6, 3)}, vectors={"wrist": np.zeros(2)}
    ),
    r"image: expected uint8 \[16, 16, 3\], got uint8 \[32": later(
        image=np.zeros((32, 32, 3), np.uint8)
    ),
    "expected reward 0 in the first row, got 2": always(reward=2.0),
    "reward: expected a finite number, got nan": later(reward=float("nan")),
    "reward: expected a number that float32 can hold, got 1e\\+300": later(reward=1e300),
    "reward: expected one number": later(reward=np.zeros(2)),
    "discount: expected 0 to 1, got 1.5": later(discount=1.5),
    "discount: expected 0 to 1, got nan": later(discount=float("nan")),
    "discount 0 says that the task ended": later(discount=0.0),
    "reset: the first row says is_last": always(is_last=True),
    "is_last: expected a bool, got int": always(is_last=0),
    "env_steps: expected 1 or more, got 0": later(env_steps=0),
    "action: expected shape": later(action=np.zeros(3)),
    "action: expected finite": later(action=np.array([np.nan, 0.0])),
    "expected a worldmodel.Step, got tuple": broken(lambda row, number: ()),
    "step: expected a worldmodel.Step, got dict": broken(lambda row, number: {} if number else row),
}


@pytest.mark.parametrize("sentence", DEFECTS)
def test_the_check_names_the_mistake(sentence):
    with pytest.raises(ValueError, match=sentence):
        check_env(DEFECTS[sentence])


def test_the_check_names_every_mistake_once():
    with pytest.raises(ValueError, match="is not an environment") as caught:
        check_env(later(discount=2.0, reward=float("inf")))
    said = str(caught.value)
    assert said.count("discount") == 1
    assert said.count("reward") == 1


# --- images of cameras ---------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_images_of_a_camera_are_fitted_as_the_settings_say(fit):
    image = painted(60, 80, 3)
    check_env(always(image=image))
    env = adopt(always(image=image), EnvSettings(image_size=32, fit=fit))
    row = env.reset()
    assert np.array_equal(row.image, worldmodel.fit_image(image, 32, fit))
    assert row.cameras == {"image": (60, 80, 3)}
    assert np.array_equal(env.step(np.zeros(2)).image, row.image)
    assert Spec.of(env, row, fit=fit).fitting(image).tobytes() == row.image.tobytes()


def test_without_settings_an_image_keeps_its_shape_and_is_a_copy():
    image = painted(60, 80, 3)
    row = adopt(always(image=image)).reset()
    assert np.array_equal(row.image, image)
    assert not np.shares_memory(row.image, image)


def test_images_by_name_are_joined_in_the_order_of_their_names_and_stacked():
    moments = [{"wrist": painted(20, 24, 3) // (n + 1), "front": painted(30, 9, 1)} for n in (0, 1)]
    env = adopt(
        broken(lambda row, number: replace(row, image=moments[min(number, 1)])),
        EnvSettings(image_size=16, frames=2),
    )
    first, second = env.reset(), env.step(np.zeros(2))
    parts = [
        worldmodel.fit_image(moment[name], 16) for moment in moments for name in ("front", "wrist")
    ]
    assert np.array_equal(first.image, np.concatenate(parts[:2] * 2, -1))
    assert np.array_equal(second.image, np.concatenate(parts, -1))
    spec = Spec.of(env, first, frames=2)
    assert spec.cameras == {"front": (30, 9, 1), "wrist": (20, 24, 3)}
    shown = spec.shown(second.image)
    assert np.array_equal(shown[:, :16], parts[2].repeat(3, -1))
    assert np.array_equal(shown[:, 16:], parts[3])
    assert Spec.described({"spec": spec.to_dict()}) == spec


def test_a_camera_that_changes_its_shape_is_refused():
    env = adopt(later(image=painted(60, 80, 3)), EnvSettings())
    env.reset()
    with pytest.raises(ValueError, match=r"expected image \[16, 16, 3\] as before, got image \[60"):
        env.step(np.zeros(2))


def test_only_tasks_with_cameras_let_choose_them():
    with pytest.raises(ConfigError, match=r"env\.cameras: only tasks of dm_control have .* toy"):
        make_env("toy", EnvSettings(cameras=(0, 1)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cameras": [0, 0]}, "env.cameras: expected different numbers from 0 on, .* got 0,0"),
        ({"cameras": "0,1", "camera": 1}, "env.camera: env.cameras names all cameras"),
        ({"cameras": "front"}, "env.cameras: expected whole numbers such as 0,1; got 'front'"),
        ({"cameras": True}, "env.cameras: expected whole numbers such as 0,1; got True"),
        ({"fit": "zoom"}, "env.fit: expected one of stretch, crop, pad; got 'zoom'"),
    ],
    ids=str,
)
def test_impossible_cameras_are_refused_by_name(settings, said):
    with pytest.raises(ConfigError, match=said):
        read(Config(), {"env": settings})


def test_cameras_are_written_as_a_list_or_with_commas():
    several = {read(Config(), {"env": {"cameras": given}}).env.cameras for given in ("1,0", [1, 0])}
    assert several == {(1, 0)}
    assert read(Config(), {"env": {"cameras": 2}}).env.cameras == (2,)


# --- the toy -----------------------------------------------------------------------------------


def play(env, policy, seed):
    rows = [env.reset(seed)]
    while not rows[-1].is_last:
        rows.append(env.step(policy(env)))
    return rows


def toy_return(policy):
    env = make_env("toy")
    return np.mean([sum(row.reward for row in play(env, policy, seed)) for seed in range(10)])


def push_to_goal(env, damping):
    true = env.state()
    return 4 * (true["goal"] - true["position"]) - damping * true["velocity"]


def test_the_toy_rewards_an_agent_that_remembers_the_velocity():
    random = np.random.default_rng(0)
    aimless = toy_return(lambda env: random.uniform(-1, 1, 2))
    idle = toy_return(lambda env: np.zeros(2))
    forgetful = toy_return(lambda env: push_to_goal(env, damping=0))
    good = toy_return(lambda env: push_to_goal(env, damping=2))
    assert max(aimless, idle, forgetful) < 15
    assert 60 < good < 80


def test_the_toy_repeats_an_episode_from_its_seed():
    one, other = make_env("toy", seed=1), make_env("toy", seed=2)
    one.reset()
    policy = lambda env: np.array([0.3, -0.8])  # noqa: E731
    for a, b in zip(play(one, policy, 5), play(other, policy, 5), strict=True):
        assert np.array_equal(a.image, b.image)
        assert a.reward == b.reward
    assert not np.array_equal(one.reset(6).image, other.reset(7).image)


def test_the_toy_counts_the_simulator_steps_of_a_short_last_row():
    rows = play(make_env("toy", EnvSettings(action_repeat=3)), lambda env: np.zeros(2), 0)
    assert [row.env_steps for row in rows] == [0] + [3] * 53 + [1]
    assert rows[-1].is_last
    assert rows[-1].discount == 1


def test_the_toy_hides_its_velocity():
    env = make_env("toy")
    env.reset(0)
    inner = env._env
    before = inner._draw()
    inner._velocity = inner._velocity + 1
    assert np.array_equal(before, inner._draw())


def test_a_toys_point_is_drawn_where_it_is():
    env = make_env("toy", EnvSettings(image_size=32))
    bright = env.reset(3).image[..., 0] > 150  # red: only the point has much of it
    rows, columns = np.nonzero(bright)
    x, y = env.state()["position"]
    pixel = 2 * 1.15 / 32
    assert columns.mean() == pytest.approx((x + 1.15) / pixel - 0.5, abs=0.5)
    assert rows.mean() == pytest.approx((1.15 - y) / pixel - 0.5, abs=0.5)


def test_stacked_images_hold_the_past_oldest_first():
    env = make_env("toy", EnvSettings(image_size=16, frames=3))
    single = make_env("toy", EnvSettings(image_size=16))
    policy = lambda env: np.array([1.0, 0.0])  # noqa: E731
    stacked, plain = play(env, policy, 0), play(single, policy, 0)
    assert stacked[0].image.shape == (16, 16, 9)
    assert np.array_equal(stacked[0].image, np.concatenate([plain[0].image] * 3, -1))
    past = np.concatenate([plain[2].image, plain[3].image, plain[4].image], -1)
    assert np.array_equal(stacked[4].image, past)


# --- names and what is installed -----------------------------------------------------------------


def test_importing_the_room_loads_no_simulator(new_process):
    assert not {"mujoco", "dm_control", "warp", "mujoco_warp"} & new_process.modules["toy"]


def test_a_mistyped_task_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no task walker_wolk; did you mean walker_walk\?"):
        make_env("walker_wolk")


def test_mujoco_4_is_refused_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.0.1")
    with pytest.raises(ConfigError, match=r'found 4.0.1; type: pip install .*"mujoco>=3.17,<4"'):
        suite.import_suite.__wrapped__()


def test_a_missing_simulator_is_reported_in_one_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs dm_control.*pip install"):
        make_env("walker_walk")
    assert [task.name for task in tasks()] == ["toy", "planar", "pendulum"]


def no_opengl():
    raise ConfigError("env.renderer: gl: no OpenGL works here")


def test_warp_comes_first_and_opengl_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(gl, "backend", lambda: "egl")
    monkeypatch.setattr(render, "_warp_missing", lambda: "")
    assert render.choose("auto") == "warp"
    assert render.choose("gl") == "gl"
    monkeypatch.setattr(render, "_warp_missing", lambda: "warp-lang is not installed")
    assert render.choose("auto") == "gl"
    with pytest.raises(ConfigError, match="warp-lang is not installed; type: pip install"):
        render.choose("warp")


def test_without_any_renderer_both_remedies_are_named(monkeypatch):
    monkeypatch.setattr(gl, "backend", no_opengl)
    monkeypatch.setattr(render, "_warp_missing", lambda: "warp-lang is not installed")
    with pytest.raises(ConfigError, match=r"no OpenGL works here; or warp.*pip install"):
        render.choose("auto")


def test_a_skin_is_left_to_opengl(monkeypatch):
    monkeypatch.setattr(gl, "backend", lambda: "egl")
    assert render.choose("auto", has_skin=True) == "gl"
    with pytest.raises(ConfigError, match=r"draws no skin.*use env.renderer gl"):
        render.choose("warp", has_skin=True)


def test_the_backend_is_the_first_that_draws_or_the_one_named(monkeypatch):
    asked = []

    def probe(name):
        asked.append(name)
        return "" if name == "osmesa" else "no such library"

    monkeypatch.setattr(gl, "_probe", probe)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert gl.backend.__wrapped__() == "osmesa"
    assert asked == ["egl", "osmesa"]
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ConfigError, match=r"glfw: no such library\); type: apt-get install"):
        gl.backend.__wrapped__()
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(ConfigError, match="unset MUJOCO_GL"):
        gl.backend.__wrapped__()


# --- the suite -----------------------------------------------------------------------------------

needs_mujoco = pytest.mark.mujoco


@pytest.fixture(scope="module")
def cartpole():
    env = make_env("cartpole_swingup", WARP)
    yield env
    env.close()


@pytest.mark.slow  # test_cli compares the table of tasks
@needs_mujoco
def test_every_task_of_the_suite_has_a_repeat_and_a_size():
    listed = {task.name: task for task in tasks()}
    from dm_control import suite as dm_suite

    assert len(listed) == len(dm_suite.ALL_TASKS) + 2
    assert listed["ball_in_cup_catch"].action_repeat == 4
    assert (listed["cartpole_swingup"].action_repeat, listed["walker_walk"].action_size) == (8, 6)
    assert (listed["humanoid_CMU_run"].action_repeat, listed["humanoid_CMU_run"].action_size) == (
        2,
        56,
    )


@needs_mujoco
@pytest.mark.usefixtures("undrawn")
def test_an_episode_ends_exactly_at_the_time_limit_inside_a_repeat():
    env = make_env("cartpole_swingup", replace(WARP, action_repeat=3))
    rows = play(env, lambda env: np.zeros(1), 0)
    assert [row.env_steps for row in rows] == [0] + [3] * 333 + [1]
    assert [row.is_last for row in rows] == [False] * 334 + [True]
    assert rows[-1].discount == 1
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(np.zeros(1))


@needs_mujoco
@pytest.mark.usefixtures("undrawn")
def test_rewards_are_summed_over_the_repeat():
    once = make_env("cartpole_swingup", replace(WARP, action_repeat=1))
    thrice = make_env("cartpole_swingup", replace(WARP, action_repeat=3))
    once.reset(4), thrice.reset(4)
    singles = [once.step(np.array([0.7])).reward for _ in range(3)]
    assert thrice.step(np.array([0.7])).reward == sum(singles)


@needs_mujoco
@pytest.mark.usefixtures("undrawn")
def test_only_the_task_itself_brings_the_discount_to_zero(monkeypatch):
    env = make_env("cartpole_swingup", WARP)
    env.reset(0)
    clock = iter([None, None, 0.0])
    task = env._env._env.task
    monkeypatch.setattr(task, "get_termination", lambda physics: next(clock))
    row = env.step(np.zeros(1))
    assert (row.discount, row.is_last, row.env_steps) == (0, True, 3)


@needs_mujoco
@pytest.mark.parametrize("task", ["cartpole_swingup", "finger_turn_easy"])
def test_a_seed_repeats_an_episode_bit_for_bit_pixels_included(task):
    small = replace(WARP, image_size=16)
    one, other = make_env(task, small, seed=1), make_env(task, small, seed=2)
    one.reset(3)
    one.step(np.zeros(one.action_low.shape))  # a different history
    start = one.reset(11), other.reset(11)
    random = np.random.default_rng(0)
    for _ in range(20):
        assert np.array_equal(start[0].image, start[1].image)
        assert start[0].reward == start[1].reward
        action = random.uniform(-1, 1, one.action_low.shape)
        start = one.step(action), other.step(action)
    for name, value in one.state().items():
        assert np.array_equal(value, other.state()[name])


@needs_mujoco
@pytest.mark.usefixtures("undrawn")
def test_without_a_seed_every_episode_is_another_and_the_environments_seed_repeats_them():
    starts = []
    for _ in range(2):
        env = make_env("cartpole_swingup", WARP, seed=5)
        env.reset(), starts.append(env.state()["position"])
        env.reset(), starts.append(env.state()["position"])
    assert np.array_equal(starts[0], starts[2])
    assert np.array_equal(starts[1], starts[3])
    assert not np.array_equal(starts[0], starts[1])


@needs_mujoco
def test_two_cameras_of_a_task_are_two_halves_of_the_channels():
    small = replace(WARP, image_size=16)
    both = make_env("cartpole_swingup", replace(small, cameras=(1, 0)))
    row = both.reset(3)
    assert row.image.shape == (16, 16, 6)
    assert row.cameras == {"fixed": (16, 16, 3), "lookatcart": (16, 16, 3)}
    for number, half in ((0, row.image[..., :3]), (1, row.image[..., 3:])):
        alone = make_env("cartpole_swingup", replace(small, camera=number))
        assert np.array_equal(alone.reset(3).image, half)
    assert not np.array_equal(row.image[..., :3], row.image[..., 3:])
    with pytest.raises(ConfigError, match=r"env\.cameras: .* no camera 4; it has: 0 fixed"):
        make_env("cartpole_swingup", replace(WARP, cameras=(0, 4)))


@needs_mujoco
def test_a_camera_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ConfigError, match="no camera 4; it has: 0 fixed, 1 lookatcart"):
        make_env("cartpole_swingup", replace(WARP, camera=4))


@needs_mujoco
def test_physics_that_diverges_names_the_task(cartpole):
    cartpole.reset(0)
    cartpole._env._physics.data.qpos[0] = np.nan
    with pytest.raises(RuntimeError, match="cartpole_swingup: the physics diverged"):
        cartpole.step(np.zeros(1))
    assert np.isfinite(cartpole.reset(0).image).all()


@needs_mujoco
def test_a_reward_that_is_no_number_names_the_task(cartpole, monkeypatch):
    cartpole.reset(0)
    monkeypatch.setattr(cartpole._env._env.task, "get_reward", lambda physics: float("nan"))
    with pytest.raises(RuntimeError, match="cartpole_swingup: the reward became nan"):
        cartpole.step(np.zeros(1))


@needs_mujoco
def test_the_records_name_the_renderer_and_the_versions(cartpole):
    described = cartpole.describe()
    assert (described["task"], described["renderer"]) == ("cartpole_swingup", "warp")
    assert described["mujoco"] == importlib.metadata.version("mujoco")
    assert {"dm-control", "mujoco-warp", "warp-lang"} <= set(described)


@needs_mujoco
def test_the_suite_passes_the_check(cartpole):
    check_env(cartpole)


# --- pictures ------------------------------------------------------------------------------------


def draw(env, **positions):
    """The picture of an environment whose joints are moved by hand."""
    physics = env._env._physics
    with physics.reset_context():
        for joint, value in positions.items():
            physics.named.data.qpos[joint] = value
    return env._env._render()["image"]


def cart_column(image):
    """The mean column of the wooden pixels: more red than blue."""
    wooden = image[..., 0].astype(int) - image[..., 2] > 30
    assert wooden.any()
    return np.nonzero(wooden)[1].mean()


@needs_mujoco
def test_the_same_state_is_the_same_picture_and_another_is_not(cartpole):
    cartpole.reset(0)
    one = draw(cartpole, slider=0.2, hinge_1=1.0)
    other = draw(cartpole, slider=0.2, hinge_1=1.4)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, draw(cartpole, slider=0.2, hinge_1=1.0))


@needs_mujoco
def test_the_cart_is_drawn_as_far_as_it_moved(cartpole):
    cartpole.reset(0)
    columns = [cart_column(draw(cartpole, slider=x, hinge_1=0.0)) for x in (-0.8, 0.0, 0.8)]
    assert columns[1] == pytest.approx(31.5, abs=1)  # the camera looks at the middle
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=1)
    # fixed camera: 4 m away, 45 degrees high
    expected = 0.8 / (2 * 4 * np.tan(np.radians(45) / 2)) * 64
    assert columns[2] - columns[1] == pytest.approx(expected, rel=0.1)


@needs_mujoco
def test_a_rail_thinner_than_a_pixel_is_not_missed(cartpole):
    cartpole.reset(0)
    image = draw(cartpole, slider=0.0, hinge_1=np.pi).astype(int)
    sky = image[20, :20]  # above the rail, left of the cart
    rail_row = np.abs(image[24:40, :20] - sky).sum((1, 2)).argmax() + 24
    assert (image[rail_row, :20, 2] - sky[:, 2] > 30).all()


@needs_mujoco
def test_a_string_is_drawn_from_the_cup_to_the_ball():
    env = make_env("ball_in_cup_catch", WARP)
    env.reset(0)
    physics = env._env._physics
    physics.model.tendon_rgba[0] = (0, 1, 0, 1)
    env._env._renderers["image"].start()
    image = draw(env, ball_x=0.0, ball_z=-0.25, cup_x=0.0, cup_z=0.0).astype(int)
    green = image[..., 1] - image[..., 0] - image[..., 2] > 30
    rows, columns = np.nonzero(green)
    assert len(rows) >= 4
    assert np.ptp(columns) <= 1
    assert set(range(rows.min(), rows.max() + 1)) == set(rows.tolist())


@needs_mujoco
def test_a_goal_that_is_a_site_is_drawn():
    env = make_env("finger_turn_easy", WARP)
    env.reset(0)
    physics = env._env._physics
    image = env._env._render()["image"]
    physics.named.model.site_rgba["target", 3] = 0
    env._env._renderers["image"].start()
    assert (env._env._render()["image"] != image).any(-1).sum() >= 4


@needs_mujoco
@pytest.mark.parametrize("task", ["ball_in_cup_catch", "cartpole_swingup"])
def test_drawing_leaves_the_physics_alone(task, cartpole):
    untouched = suite.load(task, np.random.RandomState(0)).physics.model
    env = cartpole if task == "cartpole_swingup" else make_env(task, WARP)
    env.reset(0)
    model = env._env._physics.model
    for name in ("tex_data", "geom_size", "mat_specular", "body_mass"):
        assert np.array_equal(getattr(model, name), getattr(untouched, name)), name


@needs_mujoco
@pytest.mark.slow
def test_new_terrain_is_drawn_in_every_episode():
    env = make_env("quadruped_escape", WARP)
    one, other = env.reset(1).image, env.reset(2).image
    assert (one != other).mean() > 0.3
    assert np.array_equal(env.reset(1).image, one)


@needs_mujoco
@pytest.mark.parametrize("aside", [False, True])
def test_only_shadows_of_a_light_in_line_with_the_camera_are_omitted(aside):
    env = suite.load("reacher_easy", np.random.RandomState(0))
    env.physics.named.model.body_pos["arm", "z"] = 0.1  # so that its shadow is next to it
    if aside:
        env.physics.model.light_pos[0] = (0.3, 0, 1)
    env.reset()
    looks = (warp.Look(), warp.Look(hidden_shadows=True), warp.Look(shadows=False))
    pictures = []
    for look in looks:
        renderer = warp.Warp(env.physics, 0, 64, 1, look)
        renderer.start()
        pictures.append(renderer.render())
    ours, every, none = pictures
    assert np.array_equal(ours, every if aside else none)
    seen = (every != none).any(-1).sum()
    assert (seen >= 40) if aside else (seen <= 10), seen


@needs_mujoco
def test_kernels_that_know_no_nan_draw_the_same_images_to_the_bit(monkeypatch):
    import mujoco_warp
    from warp import config

    create, kept = mujoco_warp.create_render_context, config.cpu_compiler_flags
    flags, pictures = [], []

    def watched(*arguments, **others):
        flags.append(config.cpu_compiler_flags)
        return create(*arguments, **others)

    monkeypatch.setattr(mujoco_warp, "create_render_context", watched)
    env = suite.load("reacher_easy", np.random.RandomState(0))
    env.reset()
    for compile_within in (warp._without_nans, lambda config: contextlib.nullcontext()):
        monkeypatch.setattr(warp, "_without_nans", compile_within)
        renderer = warp.Warp(env.physics, 0, 64, 1)
        renderer.start()
        pictures.append(renderer.render())
        assert config.cpu_compiler_flags == kept, "other kernels are left alone"
    assert "no-nans" in flags[0]
    assert flags[1] == kept
    assert np.array_equal(*pictures)


@needs_mujoco
def test_rays_differ_less_from_opengl_than_its_next_image_does(cartpole):
    try:
        gl.backend()
    except ConfigError as error:
        pytest.skip(str(error))
    rays, published = cartpole, make_env("cartpole_swingup", replace(WARP, renderer="gl"))
    rays.reset(0), published.reset(0)

    def error(a, b):
        return np.square(a.astype(float) - b).mean()

    for x in (-0.5, 0.1, 0.6):
        goal = draw(published, slider=x, hinge_1=0.5)
        moved = draw(published, slider=x + 0.1, hinge_1=0.5)
        assert error(draw(rays, slider=x, hinge_1=0.5), goal) < error(moved, goal) / 2
    assert published.describe()["opengl"] in gl.BACKENDS
