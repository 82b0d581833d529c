"""Gymnasium: its environments as ours, and ours as its."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import worldmodel
from tests.conftest import TINY
from worldmodel import cli
from worldmodel.checks import ConfigError
from worldmodel.config import Config
from worldmodel.envs import adopt, check_env, make_env
from worldmodel.envs.settings import EnvSettings
from worldmodel.loop import online
from worldmodel.run_folder import default_run

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces

SMALL = EnvSettings(image_size=16)


class Clock(gymnasium.Env):  # type: ignore[misc]
    """Paints the time; ends at 6, and remembers what it was asked."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, action_space: Any = None, observation_space: Any = None, render_mode: Any = None
    ) -> None:
        self.action_space = action_space or spaces.Box(
            np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)
        )
        self.observation_space = observation_space or spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.render_mode = render_mode
        self.time = 0
        self.seed: int | None = None
        self.asked: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seed, self.time = seed, 0
        return self.paint(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.asked.append(action)
        self.time += 1
        return self.paint(), float(self.time), self.time == 6, False, {}

    def paint(self) -> Any:
        space = self.observation_space
        return np.full(space.shape, self.time, space.dtype)

    def render(self) -> Any:
        return np.full((32, 48, 3), 10 * self.time, np.uint8)


# --- the door in -------------------------------------------------------------------------------


def test_a_row_of_gymnasium_is_a_row_of_ours() -> None:
    inner = Clock()
    env = adopt(inner, SMALL)
    first = env.reset(7)
    assert inner.seed == 7
    assert (first.reward, first.env_steps, first.image.max()) == (0, 0, 0)
    row = env.step(np.array([0.5, -1.0]))
    np.testing.assert_allclose(inner.asked[0], [1, 0])
    assert inner.asked[0].dtype == np.float32
    assert row.action is not None
    assert row.action.tolist() == [0.5, -1]
    assert (row.reward, row.discount, row.is_last, row.env_steps) == (1, 1, False, 1)
    assert row.image.shape == (16, 16, 3)
    assert (row.image == 1).all()


def test_a_time_limit_does_not_end_the_task() -> None:
    def last(env: Any) -> worldmodel.Step:
        adopted = adopt(env, SMALL)
        row = adopted.reset(0)
        while not row.is_last:
            row = adopted.step(np.zeros(2))
        return row

    assert (last(Clock()).discount, last(Clock()).image.max()) == (0, 6)
    cut = last(gymnasium.wrappers.TimeLimit(Clock(), 4))
    assert (cut.discount, cut.image.max()) == (1, 4)


def test_a_repeated_action_adds_its_rewards_and_stops_at_the_end() -> None:
    env = adopt(Clock(), EnvSettings(image_size=16, action_repeat=4))
    env.reset(0)
    row, end = env.step(np.zeros(2)), env.step(np.zeros(2))
    assert (row.reward, row.env_steps, row.is_last) == (1 + 2 + 3 + 4, 4, False)
    assert (end.reward, end.env_steps, end.is_last) == (5 + 6, 2, True)
    with pytest.raises(RuntimeError, match="the episode is over; call reset"):
        env.step(np.zeros(2))


def test_a_choice_is_counted_from_zero_wherever_gymnasium_begins() -> None:
    inner = Clock(spaces.Discrete(3, start=5))
    env = adopt(inner, SMALL)
    assert env.action_count == 3
    env.reset(0)
    row = env.step(np.array([0.1, 0.7, 0.2]))
    assert inner.asked == [6]
    assert row.action is not None
    assert row.action.tolist() == [0, 1, 0]


def test_rendered_images_are_used_if_the_observation_has_none() -> None:
    vector = spaces.Box(-1, 1, (3,), np.float32)
    env = adopt(Clock(observation_space=vector, render_mode="rgb_array"), SMALL)
    env.reset(0)
    row = env.step(np.zeros(2))
    assert row.image.shape == (16, 16, 3)
    assert (row.image == 10).all()
    assert env.state()["observation"].tolist() == [1, 1, 1]
    grey = adopt(Clock(observation_space=spaces.Box(0, 255, (20, 24), np.uint8)), SMALL)
    assert grey.reset(0).image.shape == (16, 16, 1)


def test_frames_are_stacked_and_starts_follow_from_the_seed() -> None:
    env = adopt(Clock(), EnvSettings(image_size=16, frames=2))
    env.reset(0)
    row = env.step(np.zeros(2))
    assert row.image[0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    starts = []
    for _ in range(2):
        inner = Clock()
        env = adopt(inner, SMALL)
        for _ in range(2):
            env.reset()
            starts.append(inner.seed)
    assert starts[:2] == starts[2:]
    assert starts[0] != starts[1]


UNFIT = {
    "shows no images: .*render_mode is None; make it with": Clock(
        observation_space=spaces.Box(-1, 1, (3,), np.float32)
    ),
    "expected Box of floats or Discrete": Clock(spaces.MultiBinary(3)),
    "an action without limits": Clock(spaces.Box(-np.inf, np.inf, (2,), np.float32)),
}


@pytest.mark.parametrize("sentence", UNFIT)
def test_an_environment_that_cannot_be_wrapped_is_refused_in_one_sentence(sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        adopt(UNFIT[sentence], SMALL)
    assert "\n" not in str(caught.value)


def test_an_id_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no Pendulm-v1; did you mean Pendulum-v1\?"):
        make_env("gym:Pendulm-v1")
    with pytest.raises(ConfigError, match="no Pendulum-v7; did you mean Pendulum-v1"):
        make_env("gym:Pendulum-v7")
    with pytest.raises(ConfigError, match=r"no Nope-v0; this lists all: python -c"):
        make_env("gym:Nope-v0")
    with pytest.raises(ConfigError, match="cannot be made: No module named 'nowhere'"):
        make_env("gym:nowhere:Robot-v0")


def test_without_gymnasium_the_error_has_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gymnasium" else find_spec(name)
    )
    for ask in (lambda: make_env("gym:Pendulum-v1"), lambda: worldmodel.as_gym(object())):
        with pytest.raises(ConfigError, match=r"gymnasium.* not installed; type: pip install"):
            ask()


def test_a_run_of_a_gymnasium_task_has_one_folder() -> None:
    config = Config(task="gym:ALE/Pong-v5")
    assert default_run("default", config) == Path("runs/default-gym_ALE_Pong-v5-0")


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_the_classics_give_pictures_that_move_and_repeat(name: str) -> None:
    pytest.importorskip("pygame")
    check_env(make_env(f"gym:{name}"))

    def images(seed: int) -> np.ndarray:
        env = make_env(f"gym:{name}")
        env.reset(seed)
        return np.stack([env.step(env.action_high).image for _ in range(4)])

    assert images(3).shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(images(3), images(3))
    assert np.abs(images(3)[0].astype(int) - images(3)[3]).max() > 50
    assert np.abs(images(3).astype(int) - images(4)).max() > 50


class Robot(Clock):
    """Two cameras and its joints."""

    def __init__(self, **more: Any) -> None:
        parts = {
            "wrist": spaces.Box(0, 255, (20, 24, 3), np.uint8),
            "front": spaces.Box(0, 255, (16, 16, 1), np.uint8),
            "joints": spaces.Box(-9, 9, (2, 2), np.float64),
        }
        super().__init__(observation_space=spaces.Dict({**parts, **more}))

    def paint(self) -> Any:
        return {
            "wrist": np.full((20, 24, 3), self.time, np.uint8),
            "front": np.full((16, 16, 1), 100, np.uint8),
            "joints": np.full((2, 2), -0.5 * self.time),
        }


def test_cameras_become_one_image_and_numbers_become_vectors() -> None:
    env = adopt(Robot(), SMALL)
    check_env(env)
    env.reset(0)
    row = env.step(np.zeros(2))
    assert row.image.shape == (16, 16, 4)
    assert row.image[0, 0].tolist() == [100, 1, 1, 1]  # gymnasium's dicts are in order of names
    assert {name: vector.tolist() for name, vector in row.vectors.items()} == {"joints": [-0.5] * 4}
    assert row.vectors["joints"].dtype == np.float32
    with pytest.raises(ConfigError, match=r"its observation gear is .*; expected Box"):
        adopt(Robot(gear=spaces.Discrete(5)), SMALL)


def test_gymnasiums_observation_holds_image_and_vectors() -> None:
    from gymnasium.utils.env_checker import check_env as check

    out = worldmodel.as_gym(adopt(Robot(), SMALL))
    assert set(out.observation_space.spaces) == {"image", "joints"}
    seen, _ = out.reset(seed=0)
    assert seen["image"].shape == (16, 16, 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not having a spec|.*infinity")
        check(worldmodel.as_gym(make_env("toy", EnvSettings(image_size=16, vectors=True))))


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_the_classics_train_through_the_same_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setattr(online, "cores", lambda: 1)  # in this process: starting one takes longer
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    monkeypatch.setattr("worldmodel.cli.train._finish", lambda run: None)  # it draws a report
    preset, run = tmp_path / "tiny.yaml", tmp_path / "run"
    preset.write_text(yaml.safe_dump(TINY))
    chosen = ["--task", f"gym:{name}", "--run", str(run), "--env.action_repeat", "8"]
    assert cli.main(["train", str(preset), *chosen, "--steps", "60"]) == 0
    capsys.readouterr()
    assert cli.main(["eval", str(run), "--episodes", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["env_steps"] > 0
    assert np.isfinite(answer["mean"])


# --- the door out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        "toy",
        "gym:CartPole-v1",
        pytest.param("cartpole_swingup", marks=pytest.mark.mujoco),
    ],
)
def test_gymnasiums_own_checker_passes(task: str) -> None:
    from gymnasium.utils.env_checker import check_env as check

    if task.startswith("gym:"):
        pytest.importorskip("pygame")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not having a spec")  # ours come from no registry
        check(worldmodel.as_gym(make_env(task, SMALL)))


def test_our_rows_become_gymnasiums_without_change() -> None:
    ours, out = make_env("toy", SMALL), worldmodel.as_gym(make_env("toy", SMALL))
    assert out.observation_space.shape == (16, 16, 3)
    row = ours.reset(5)
    image, info = out.reset(seed=5)
    np.testing.assert_array_equal(image, row.image)
    while not row.is_last:
        action = out.action_space.sample()
        row = ours.step(action)
        image, reward, terminated, truncated, info = out.step(action)
        np.testing.assert_array_equal(image, row.image)
        assert (reward, terminated) == (row.reward, False)
        assert info == {"discount": 1.0, "env_steps": row.env_steps}
    assert truncated
    np.testing.assert_array_equal(out.render(), image)


def test_wrapping_into_gymnasium_and_back_changes_nothing() -> None:
    """Terminated and truncated, choices and seeds are the same after both wrappers."""
    for limit, ends in ((4, (False, True)), (9, (True, False))):
        inner = gymnasium.wrappers.TimeLimit(Clock(spaces.Discrete(3)), limit)
        out = worldmodel.as_gym(inner)
        assert out.action_space == spaces.Discrete(3)
        out.reset(seed=3)
        assert inner.unwrapped.seed == 3
        ended = (False, False)
        while not any(ended):
            _, _, *ended, _ = out.step(2)
        assert tuple(ended) == ends
        assert set(inner.unwrapped.asked) == {2}
