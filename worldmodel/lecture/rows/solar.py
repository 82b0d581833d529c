"""SOLAR: latents under a fitted linear prior, and a regulator that changes by a bounded KL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.assembly import agent_of
from worldmodel.behaviours.regulator import LQR, Regulator
from worldmodel.checks import read
from worldmodel.envs import Environment, adopt
from worldmodel.envs.pendulum import GRAVITY, Pendulum
from worldmodel.envs.settings import EnvSettings
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.lecture.trials import Recorded, learn
from worldmodel.linear import Fit, moments_of
from worldmodel.presets import load_preset
from worldmodel.replay import cut
from worldmodel.rollout.noise import Draws, Exploration, Noise
from worldmodel.rollout.play import play_in_step, play_wandering
from worldmodel.structs import Episode, Step

# Random episodes for the latents: they begin more widely than those of the policy, so that the
# encoder has seen all that its rollouts show.
EPISODES, EPISODE_ROWS, WIDE_ANGLE, WIDE_SPEED = 120, 12, 0.3, 1.0
MEMORY = 0.8  # correlation of random actions between rows: white ones hardly move the rod
UPDATES = 1500
# Rollouts of the policy: a second and a half from about upright, in which an idle rod falls.
ACTIONS, ANGLE, SPEED = 15, 0.1, 0.1
ROLLOUTS, ITERATIONS, TESTED = 20, 5, 20
BROKEN = LQR(bound=math.inf, strength=1e-6, around=0)
BROKEN_ROLLOUTS = 3

CONFIG = read(
    load_preset("solar"),
    {
        "task": "pendulum",
        "env": {"image_size": 32, "frames": 2, "action_repeat": 2},
        "replay": {"batch": 16, "length": 10, "tournament": 1},
        "model": {
            "encoder": {"kind": "mlp", "width": 200},
            "decoder": {"kind": "mlp", "width": 200},
            "policy": {"rows": ACTIONS},
        },
        "objective": {
            "image": {"decoded_share": 0.25},
            "predicted_image": {"decoded_share": 0.25},
        },
        "learner": {"model_rate": 2e-3, "precision": "float32"},
        "planning": {"precision": "float32"},
    },
)


class NearUpright:
    """The pendulum from about upright, for ``rows`` actions an episode."""

    def __init__(self, settings: EnvSettings, angle: float, speed: float, rows: int) -> None:
        self._pendulum = Pendulum(settings, 0)
        self._spread, self._rows = (angle, speed), rows
        self.action_low, self.action_high = self._pendulum.action_low, self._pendulum.action_high

    def reset(self, seed: int | None = None) -> Step:
        self._left = self._rows
        return self._pendulum.start(*np.random.default_rng(seed).normal(0.0, self._spread))

    def step(self, action: NDArray[np.float32]) -> Step:
        self._left -= 1
        return replace(self._pendulum.step(action), is_last=self._left == 0)

    def state(self) -> dict[str, NDArray[np.float32]]:
        return self._pendulum.state()


def near_upright(angle: float, speed: float, rows: int) -> Environment:
    return adopt(NearUpright(CONFIG.env, angle, speed, rows), CONFIG.env)


def known_system_error(seed: int) -> float:
    """|A - A^| / |A| of the pendulum, linear near upright and exact over a row, from 50 rollouts.

    th'' = 3 g / (2 l) th + 3 / (m l^2) u, with m = l = 1.
    """
    flow = torch.zeros(3, 3, dtype=torch.float64)
    flow[0, 1], flow[1, 0], flow[1, 2] = 1.0, 1.5 * GRAVITY, 3.0
    truth = torch.matrix_exp(0.05 * flow)[:2]  # [A B]
    random = torch.Generator().manual_seed(seed)
    states = [0.3 * torch.randn(50, 2, generator=random, dtype=torch.float64)]
    actions = torch.randn(20, 50, 1, generator=random, dtype=torch.float64)
    for action in actions:
        noise = 0.01 * torch.randn(50, 2, generator=random, dtype=torch.float64)
        states.append(torch.cat([states[-1], action], -1) @ truth.mT + noise)
    path = torch.stack(states)
    moments = moments_of(path[:-1], actions, path[1:]).sum(0)
    found = Fit.prior(2, 1).after(moments, 1000).step.matrix
    return float(torch.linalg.matrix_norm(found - truth) / torch.linalg.matrix_norm(truth))


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    """``cost``: of a rollout without exploration, from starts that no policy learned from.

    ``worst_cost`` is the highest one of all iterations, as a share of that of no action.
    """
    wide = near_upright(WIDE_ANGLE, WIDE_SPEED, EPISODE_ROWS)
    seeds = range(1000 * seed, 1000 * seed + EPISODES)
    seen = [Recorded(play_wandering(wide, each, MEMORY).episode, {}) for each in seeds]
    model = learn(replace(CONFIG, seed=seed), seen, UPDATES)

    settings, count = (BROKEN, BROKEN_ROLLOUTS) if broken else (CONFIG.behaviour, ROLLOUTS)
    assert isinstance(settings, LQR)
    regulator = Regulator(settings, model)
    agent = agent_of(CONFIG, model)
    envs = [near_upright(ANGLE, SPEED, ACTIONS) for _ in range(max(count, TESTED))]

    def play(first: int, count: int, exploration: Exploration) -> list[Episode]:
        played: list[Any] = play_in_step(
            envs[:count], agent, range(first, first + count), exploration
        )
        return [each.episode for each in played]

    def cost() -> float:
        return -float(np.mean([e.total_reward for e in play(0, TESTED, Noise.none())]))

    costs, divergences = [cost()], []
    for number in range(1, ITERATIONS + 1):
        episodes = play(10_000 * (seed + 1) + 100 * number, count, Draws())
        with torch.no_grad():
            places = [(place, 0) for place in range(count)]
            figures = regulator.collected(model, cut(episodes, places, ACTIONS + 1))
        divergences.append(figures["policy_kl"])
        costs.append(cost())
    return {
        "known_system_error": known_system_error(seed),
        "cost_fall": 1 - costs[-1] / costs[0],
        "worst_cost": max(costs[1:]) / costs[0],
        "largest_kl": max(divergences),
        "cost_of_no_action": costs[0],
        **{f"cost_{number}": cost for number, cost in enumerate(costs) if number},
    }


ROW = Row(
    name="solar",
    idea="closed-form dynamics and a bounded change keep a rod upright after a hundred rollouts",
    broken="3 rollouts an iteration, a prior without weight, no bound of the change",
    passes={
        "known_system_error": at_most(0.05),
        "cost_fall": at_least(0.3),
        "worst_cost": at_most(1.1),
        "largest_kl": at_most(20.0),
    },
    reds=("cost_fall", "worst_cost"),
    short=True,
    settings={
        "config": CONFIG,
        "episodes": [EPISODES, EPISODE_ROWS, WIDE_ANGLE, WIDE_SPEED],
        "updates": UPDATES,
        "rollouts": [ROLLOUTS, ITERATIONS, TESTED, ACTIONS, ANGLE, SPEED],
        "broken": [BROKEN, BROKEN_ROLLOUTS],
    },
    measure=measure,
)
