"""Planning with the true simulator: better than no plan, and as good as it must be."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from worldmodel.bench import simulator_planning
from worldmodel.bench.simulator_planning import SEARCH, keep, plan_with_simulator
from worldmodel.envs import make_env
from worldmodel.envs.settings import EnvSettings
from worldmodel.envs.simulator import fork
from worldmodel.planners import MPPI

SMALL = EnvSettings(renderer="warp", image_size=16)
BRIEF = MPPI(horizon=6, iterations=2, candidates=12, elites=4, initial_std=0.3)


def play(env, choose, seed, rows):
    env = fork(env)
    env.reset(seed)
    return sum(env.step(choose()).reward for _ in range(rows))


@pytest.mark.mujoco
@pytest.mark.usefixtures("undrawn")
def test_planning_beats_no_action_and_random_ones_from_the_same_state():
    env = make_env("cartpole_balance", SMALL)
    random = np.random.default_rng(0)
    rows = 18  # of 125; alone, the pole needs about as many to fall
    planned = plan_with_simulator(env, BRIEF, seed=2, rows=rows)
    still = play(env, lambda: np.zeros(1), 2, rows)
    wild = max(play(env, lambda: random.uniform(-1, 1, 1), 2, rows) for _ in range(3))
    assert planned > 1.15 * max(still, wild)
    assert planned <= rows * 8


@pytest.mark.mujoco
@pytest.mark.usefixtures("undrawn")
def test_a_seed_repeats_an_episode_of_planning_and_the_environment_stays():
    env = make_env("cartpole_balance", SMALL)
    env.reset(9)
    before = env._env._physics.get_state()
    twice = [plan_with_simulator(env, BRIEF, seed=seed, rows=2) for seed in (1, 1, 2)]
    assert twice[0] == twice[1] != twice[2]
    assert np.array_equal(env._env._physics.get_state(), before)


def test_a_row_of_the_file_replaces_the_one_it_repeats(tmp_path):
    file = tmp_path / "simulator_planning.csv"
    row = {"task": "walker_walk", "planner": "icem", "settings": "horizon=3", "seed": "0"}
    keep(file, row | {"return": "1.0"})
    keep(file, row | {"return": "2.0", "task": "cartpole_balance"})
    keep(file, row | {"return": "3.0"})
    keep(file, row | {"return": "4.0", "seed": "1"})
    with file.open() as kept:
        rows = [(row["task"], row["return"]) for row in csv.DictReader(kept)]
    assert rows == [("cartpole_balance", "2.0"), ("walker_walk", "3.0"), ("walker_walk", "4.0")]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
@pytest.mark.mujoco
def test_cartpole_is_balanced_by_the_search_of_the_file():
    row = simulator_planning.measure("cartpole_balance", SEARCH, seed=0)
    assert float(row["return"]) >= 950
