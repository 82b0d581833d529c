"""The true simulator as a model: its returns are the environment's, which does not change."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from worldmodel.envs import make_env
from worldmodel.envs.settings import EnvSettings
from worldmodel.envs.simulator import Simulator, fork

SMALL = EnvSettings(renderer="warp", image_size=16)

pytestmark = pytest.mark.mujoco


@pytest.fixture(scope="module")
def cartpole():
    env = make_env("cartpole_balance", SMALL)
    yield env
    env.close()


def suite_of(env):
    return env._env


def pose(env):
    """All state of an environment that a simulation could change."""
    suite = suite_of(env)
    physics = suite._physics
    whole = np.empty(mujoco.mj_stateSize(physics.model.ptr, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(
        physics.model.ptr, physics.data.ptr, whole, mujoco.mjtState.mjSTATE_INTEGRATION
    )
    derived = [
        physics.data.xpos,
        physics.data.sensordata,
        physics.data.qacc,
        physics.model.geom_pos,
    ]
    random = suite._random.get_state()[1]
    return np.concatenate([whole, random, *map(np.ravel, derived)])


def draw_actions(env, candidates, length, seed=0):
    """[1, N, L, A], some beyond the limits"""
    shape = (1, candidates, length, len(env.action_low))
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(shape, dtype=torch.float64).uniform_(-1.3, 1.3, generator=generator)


def stepped(env, actions):
    """[L, A] -> the return, by an environment's own steps"""
    total = 0.0
    for action in actions.numpy():
        row = env.step(action)
        total += row.reward
        if row.is_last:
            break
    return total


@pytest.mark.parametrize(
    "task",
    ["cartpole_balance", "reacher_hard", "cheetah_run", "walker_walk", "acrobot_swingup"],
)
@pytest.mark.usefixtures("undrawn")
def test_returns_are_those_of_the_environment_bit_for_bit(task):
    env = make_env(task, replace(SMALL, action_repeat=3))
    env.reset(3)
    past = draw_actions(env, 1, 7, seed=1)[0, 0]
    stepped(env, past)
    actions = draw_actions(env, candidates=4, length=9)
    returns = Simulator(env)(actions)
    assert returns.shape == (1, 4)
    assert returns.dtype == torch.float64
    again = make_env(task, replace(SMALL, action_repeat=3))
    for number in range(2):
        again.reset(3)
        stepped(again, past)
        assert stepped(again, actions[0, number]) == returns[0, number].item()


def test_the_order_of_the_actions_counts(cartpole):
    cartpole.reset(3)
    actions = draw_actions(cartpole, candidates=2, length=5)
    backwards = Simulator(cartpole)(actions.flip(2))
    assert stepped(cartpole, actions[0, 0]) != backwards[0, 0].item()


def test_simulating_does_not_change_the_environment(cartpole):
    other = make_env("cartpole_balance", SMALL)
    first, second = cartpole.reset(5), other.reset(5)
    simulator = Simulator(cartpole)
    for action in draw_actions(cartpole, 1, 6)[0, 0].numpy():
        simulator(draw_actions(cartpole, candidates=3, length=4))
        assert np.array_equal(pose(cartpole), pose(other))
        first, second = cartpole.step(action), other.step(action)
        assert np.array_equal(first.image, second.image)
        assert first.reward == second.reward
        state, same = cartpole.state(), other.state()
        assert all(np.array_equal(state[name], same[name]) for name in same)
    suite_of(cartpole)._seeds, suite_of(other)._seeds = map(np.random.default_rng, (1, 1))
    assert np.array_equal(cartpole.reset().image, other.reset().image)
    assert np.array_equal(pose(cartpole), pose(other))


def test_a_candidate_does_not_depend_on_its_neighbours(cartpole):
    cartpole.reset(0)
    simulator = Simulator(cartpole)
    actions = draw_actions(cartpole, candidates=3, length=5)
    together = simulator(actions)
    alone = [simulator(actions[:, [number]]) for number in (2, 1, 0)]
    assert torch.equal(together, torch.cat(alone[::-1], 1))


def test_the_simulator_follows_the_environment_into_the_next_episode():
    env = make_env("reacher_easy", SMALL)  # its target is in the model, not in the state
    env.reset(0)
    simulator = Simulator(env)
    env.reset(1)
    actions = draw_actions(env, candidates=8, length=25)
    assert torch.equal(simulator(actions), Simulator(env)(actions))
    assert simulator(actions).any()


def test_nothing_is_earned_after_the_end():
    env = fork(make_env("cartpole_balance", replace(SMALL, action_repeat=3)))
    row = env.reset(0)
    still = np.zeros(1, np.float32)
    simulator = Simulator(env)
    while suite_of(env)._steps < 990:
        row = env.step(still)
    long = draw_actions(env, candidates=2, length=9)
    expected = simulator(long[:, :, :4])  # 990, then 3 rows of 3 and one of 1
    assert torch.equal(simulator(long), expected)
    assert stepped(env, long[0, 0]) == expected[0, 0].item()
    with pytest.raises(RuntimeError, match=r"episode is over.*reset\(\)"):
        simulator(long)
    assert row.reward > 0


def test_the_tasks_own_end_ends_a_candidate_too(cartpole, monkeypatch):
    cartpole.reset(0)
    actions = draw_actions(cartpole, candidates=1, length=3)
    task = suite_of(cartpole)._env.task
    began = suite_of(cartpole)._physics.data.time
    monkeypatch.setattr(
        task, "get_termination", lambda physics: 0.0 if physics.data.time > began + 0.1 else None
    )
    assert 8 < Simulator(cartpole)(actions).item() < 16
    assert stepped(cartpole, actions[0, 0]) < 16


def test_the_python_state_of_a_task_is_restored_for_each_candidate(cartpole, monkeypatch):
    cartpole.reset(0)
    task = suite_of(cartpole)._env.task
    monkeypatch.setattr(task, "touched", [], raising=False)

    def remember(self, physics):
        self.touched.append(physics.data.time)
        return len(self.touched) + self.random.uniform()

    monkeypatch.setattr(type(task), "get_reward", remember)
    actions = draw_actions(cartpole, candidates=3, length=4)
    actions[:] = actions[:, :1]
    returns = Simulator(cartpole)(actions)
    assert task.touched == []
    assert stepped(cartpole, actions[0, 0]) == returns[0, 0].item()
    assert torch.equal(returns, returns[:, :1].expand(1, 3))


def test_a_later_reward_is_discounted(cartpole):
    cartpole.reset(0)
    actions = draw_actions(cartpole, candidates=2, length=3)
    plain = [Simulator(cartpole)(actions[:, :, :length]) for length in (1, 2, 3)]
    halved = Simulator(cartpole, discount=0.5)(actions)
    expected = plain[0] + 0.5 * (plain[1] - plain[0]) + 0.25 * (plain[2] - plain[1])
    assert torch.allclose(halved, expected)


def test_physics_that_diverge_earn_minus_infinity(cartpole, monkeypatch):
    from dm_control.rl.control import PhysicsError

    cartpole.reset(0)
    actions = draw_actions(cartpole, candidates=3, length=2)
    actions[0, 1] = 0.125
    task = suite_of(cartpole)._env.task

    def burst(action, physics):
        if action == 0.125:
            raise PhysicsError("too fast")
        physics.set_control(action)

    monkeypatch.setattr(task, "before_step", burst)
    assert Simulator(cartpole)(actions).isinf().tolist() == [[False, True, False]]


def test_nothing_is_drawn(cartpole, monkeypatch):
    cartpole.reset(0)

    def drawn():
        raise AssertionError("somebody drew an image")

    monkeypatch.setattr(suite_of(cartpole)._renderers["image"], "render", drawn)
    Simulator(cartpole)(draw_actions(cartpole, candidates=2, length=2))
    other = fork(cartpole)
    other.step(np.zeros(1))
    assert other.reset(3).image.shape == (1, 1, 3)
    other.close()


@pytest.mark.parametrize("task", ["cartpole_balance", "reacher_easy"])
def test_a_fork_is_independent_and_gives_the_same_rows(task):
    env = make_env(task, SMALL)
    env.reset(2)
    before = pose(env)
    other = fork(env)
    actions = draw_actions(env, 1, 5)[0, 0]
    expected = stepped(other, actions), other.reset().reward, pose(other)
    assert np.array_equal(pose(env), before)
    assert stepped(env, actions) == expected[0]
    env.reset()
    assert np.array_equal(pose(env), expected[2])


def test_an_environment_with_vectors_is_simulated_and_forked() -> None:
    plain = make_env("cartpole_balance", SMALL)
    sensed = make_env("cartpole_balance", replace(SMALL, vectors=True))
    actions = torch.linspace(-1, 1, 12).reshape(1, 3, 4, 1)
    for env in (plain, sensed):
        env.reset(seed=3)
    torch.testing.assert_close(Simulator(sensed)(actions), Simulator(plain)(actions))
    forked = fork(sensed)
    row, copied = sensed.step(np.ones(1, np.float32)), forked.step(np.ones(1, np.float32))
    assert row.vectors
    assert copied.vectors.keys() == row.vectors.keys()
    for name, vector in row.vectors.items():
        assert np.array_equal(copied.vectors[name], vector)


def test_what_cannot_be_copied_is_named(painter):
    toy = make_env("toy", SMALL)
    for env, name in ((toy, "Toy"), (painter, "Painter")):
        with pytest.raises(TypeError, match=rf"only a task of dm_control.*got {name}"):
            Simulator(env)
        with pytest.raises(TypeError, match=rf"only a task of dm_control.*got {name}"):
            fork(env)


def test_a_batch_of_environments_is_refused(cartpole):
    cartpole.reset(0)
    with pytest.raises(ValueError, match=r"expected \[1, N, L, A\].*got \[2, 3, 4, 1\]"):
        Simulator(cartpole)(torch.zeros(2, 3, 4, 1))
