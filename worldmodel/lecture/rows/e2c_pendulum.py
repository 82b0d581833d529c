"""Embed to Control foresees images of a pendulum, and holds it upright by a picture of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.envs import Environment, adopt
from worldmodel.envs.pendulum import Pendulum
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.lecture.trials import Recorded, believe, learn, record, whole
from worldmodel.models import WorldModel
from worldmodel.presets import load_preset
from worldmodel.rollout import evaluate
from worldmodel.rollout.play import play_constant, play_random
from worldmodel.structs import Step, at

# Two images in one show the velocity; three numbers hold a ring of angles, and the velocity.
SETTINGS = read(
    load_preset("e2c"),
    {
        "task": "pendulum",
        "env": {"frames": 2, "image_size": 24},
        "model": {"dynamics": {"state_size": 3}},
        "objective": {
            "image": {"decoded_share": 0.5},
            "predicted_image": {"decoded_share": 0.5},
            "latent_kl": {"first_weight": None},  # a ring does not fold as the planar map does
        },
    },
)
EPISODES, ROWS = 190, 21  # 3800 triples of two images and an action
HELD_OUT = 30
UPDATES = 2500
STARTS, STEPS = 10, 60  # episodes of holding the balance, as long as zero action takes to fall
NEAR = 0.2  # radians from upright at which they begin, at rest
IN_GOAL = 0.5  # radians from upright that count


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    env = adopt(Pendulum(SETTINGS.env, 0), SETTINGS.env)
    seen, held = (record(env, n, ROWS, 1000 * seed + n) for n in (EPISODES, HELD_OUT))
    objective = replace(SETTINGS.objective, predicted_image=None, latent_kl=None)
    model = learn(
        replace(SETTINGS, seed=seed),
        seen,
        UPDATES,
        objective=objective if broken else SETTINGS.objective,
    )
    seeds = range(1000 * seed, 1000 * seed + STARTS)
    still = np.zeros(1, np.float32)
    planned = time_planned(agent_of(SETTINGS, model), seeds)
    zero = time_played(seeds, lambda env, seed: play_constant(env, still, seed))
    return {
        "one_step_error": one_step_error(model, held),
        "time_in_goal": planned,
        "time_in_goal_above_zero": planned - zero,
        "time_in_goal_zero": zero,
        "time_in_goal_random": time_played(seeds, play_random),
    }


@torch.no_grad()
def one_step_error(model: WorldModel, held: list[Recorded]) -> float:
    """The squared error of predicted latents, as a share of that of predicting no change"""
    batch = whole(held)
    latents = believe(model, batch)
    before, after = (
        at(latents, (slice(None), slice(1, -1))),
        at(latents, (slice(None), slice(2, None))),
    )
    context = model.dynamics.remember(before, batch.action[:, 2:])
    foreseen = model.dynamics.imagine(context, None).features
    error, change = foreseen - after.features, before.features - after.features
    return float(error.square().sum() / change.square().sum())


class Balance:
    """The pendulum, which begins at rest near upright; it counts the rows near upright."""

    def __init__(self) -> None:
        self.env = Pendulum(SETTINGS.env, 0)
        self.action_low, self.action_high = self.env.action_low, self.env.action_high
        self.in_goal: list[bool] = []

    def reset(self, seed: int | None = None) -> Step:
        self.in_goal = []
        return self.env.start(np.random.default_rng(seed).uniform(-NEAR, NEAR), 0.0)

    def step(self, action: NDArray[np.float32]) -> Step:
        row = self.env.step(action)
        self.in_goal.append(bool(self.env.state()["orientation"][0] >= np.cos(IN_GOAL)))
        return replace(row, is_last=len(self.in_goal) == STEPS)

    def goal(self) -> NDArray[np.uint8]:
        return self.env.goal()


def time_planned(agent: Agent, seeds: range) -> float:
    """The share of rows near upright in episodes that iLQR plans to the upright image."""
    balances = [Balance() for _ in seeds]
    envs = [adopt(balance, SETTINGS.env) for balance in balances]
    evaluate(agent, envs, len(seeds), seeds[0])
    return float(np.mean([balance.in_goal for balance in balances]))


def time_played(seeds: range, play: Any) -> float:
    """The same of episodes that are played without a model."""
    balance = Balance()
    env: Environment = adopt(balance, SETTINGS.env)
    shares = []
    for seed in seeds:
        play(env, seed)
        shares.append(np.mean(balance.in_goal))
    return float(np.mean(shares))


ROW = Row(
    name="e2c_pendulum",
    idea="the next latent of two images is foreseen, and iLQR holds the balance by a picture of it",
    broken="no loss looks at predicted latents",
    passes={
        # Chosen on seeds 10 and 11: 0.05 and 0.06, 0.86 and 0.70, 0.28 and 0.21. A longer run or
        # more pixels (the paper has 48) may do better, and do not fit into three minutes.
        "one_step_error": at_most(0.08),
        "time_in_goal": at_least(0.65),
        "time_in_goal_above_zero": at_least(0.15),
    },
    reds=("one_step_error", "time_in_goal"),
    short=True,
    settings={"updates": UPDATES, "episodes": EPISODES, "e2c": SETTINGS},
    measure=measure,
)
