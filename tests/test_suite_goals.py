"""Goal images of dm_control's tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worldmodel.envs import EnvSettings, make_env

pytestmark = pytest.mark.mujoco
GL = EnvSettings(image_size=32, action_repeat=2)


def data_of(env: Any) -> dict[str, Any]:
    """Every array of the simulator's data."""
    data = env._env._physics.data.ptr
    named = {name: getattr(data, name) for name in dir(data) if not name.startswith("_")}
    return {name: part.copy() for name, part in named.items() if isinstance(part, np.ndarray)}


@pytest.mark.parametrize(
    "task", ["point_mass_easy", "cartpole_balance", "pendulum_swingup", "reacher_hard"]
)
def test_a_goal_image_leaves_the_episode_as_it_was_bit_for_bit(task: str) -> None:
    env = make_env(task, GL)
    env.reset(0)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, len(env.action_low)))
    plain = [env.step(action.astype(np.float32)) for action in actions]
    env.reset(0)
    for row, action in zip(plain, actions, strict=True):
        before = data_of(env)
        goal = env.goal()
        after = data_of(env)
        assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
        again = env.step(action.astype(np.float32))
        np.testing.assert_array_equal(again.image, row.image)
        assert again.reward == row.reward
        assert goal.shape == row.image.shape
        assert (goal != row.image).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_goal_of_the_reacher_has_its_finger_on_the_target(seed: int) -> None:
    from worldmodel.envs.suite_goals import posed, reaching

    env: Any = make_env("reacher_hard", GL)
    env.reset(seed)
    physics = env._env._physics
    with posed(physics, reaching(physics)):
        assert physics.finger_to_target_dist() < 1e-9
        assert abs(physics.named.data.qpos["wrist"]) <= np.radians(160)


def test_a_goal_earns_the_whole_reward() -> None:
    from worldmodel.envs.suite_goals import POSES, posed

    for task in ("point_mass_easy", "cartpole_balance", "pendulum_swingup", "reacher_hard"):
        env: Any = make_env(task, GL)
        env.reset(0)
        inner, physics = env._env._env, env._env._physics
        with posed(physics, POSES[task.rpartition("_")[0]](physics)):
            assert inner.task.get_reward(physics) == pytest.approx(1.0, abs=1e-6), task


def test_a_task_without_a_pose_gives_no_goal() -> None:
    env = make_env("cheetah_run", GL)
    env.reset(0)
    assert env.goal() is None
