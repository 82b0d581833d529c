"""Latents of classes: a model of Pendulum's images learns through drawn one-hot classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.agent import Agent
from worldmodel.analysis import fit_reward, mean_of, measure
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.models import WorldModel, build
from worldmodel.replay import cut
from worldmodel.rollout import play_random
from worldmodel.structs import Episode, Spec

TRAINING, HELD_OUT, ROWS = 100, 20, 40  # episodes, and the rows that are kept of each
UPDATES = 1200
AHEAD = 5

CONFIG = read(
    Config(),
    {
        "task": "pendulum",
        "env": {"image_size": 32},
        "replay": {"batch": 24, "length": 16},
        "model": {
            "encoder": {"kind": "slim", "width": 8},
            "decoder": {"kind": "slim", "width": 8},
            "dynamics": {
                "kind": "recurrent_categorical",
                "deter_size": 128,
                "groups": 12,
                "classes": 12,
                "hidden_size": 128,
            },
            "posterior": {"hidden_size": 128},
            "reward": {"size": 128, "bins": 255},
            "discount": "none",
            "value": "none",
            "policy": "none",
        },
        "objective": {"discount": "none", "priority": "none", "image": {"decoded_share": 0.25}},
        "behaviour": "none",
        "planning": {"proposals": 0},
        "learner": {"precision": "float32"},
    },
)


def measured(seed: int, broken: bool) -> Mapping[str, float]:
    env = make_env(CONFIG.task, CONFIG.env)
    episodes = [
        play_random(env, 10_000 * seed + number).episode.cut(0, ROWS)
        for number in range(TRAINING + HELD_OUT)
    ]
    training, held_out = episodes[:TRAINING], episodes[TRAINING:]
    torch.manual_seed(seed)
    model = build(CONFIG.model, Spec.of(env, env.reset(0)))
    if broken:
        cut_gradient(model)
    agent = learned(model, training, seed)
    rows = cut(held_out, [(number, 0) for number in range(HELD_OUT)], ROWS)
    with torch.no_grad():
        beliefs = agent.model.beliefs(rows.action, agent.model.embed(rows.image), rows.valid)
    at_the_row = fit_reward(agent, rows, beliefs).r_squared
    errors = measure(agent, held_out, mean_of(training, agent.model.spec), ahead=AHEAD).at(AHEAD)
    return {
        "reward_r2": at_the_row,
        "reward_r2_5_ahead": 1 - float(errors.reward_model[0] / errors.reward_mean[0]),
        "hold_last_reward_r2_5_ahead": 1
        - float(errors.reward_hold_last[0] / errors.reward_mean[0]),
        "image_error_over_hold_last": float(errors.model[0] / errors.hold_last[0]),
        "image_error_over_mean_image": float(errors.model[0] / errors.mean_image[0]),
    }


def learned(model: WorldModel, episodes: Sequence[Episode], seed: int) -> Agent:
    model.fit(torch.from_numpy(np.concatenate([episode.image for episode in episodes])))
    learner = learner_of(replace(CONFIG, seed=seed), model)
    random, length = np.random.default_rng(seed), CONFIG.replay.length
    for _ in range(UPDATES):
        which = random.integers(len(episodes), size=CONFIG.replay.batch).tolist()
        begins = random.integers(ROWS - length + 1, size=len(which)).tolist()
        learner.update(cut(episodes, list(zip(which, begins, strict=True)), length))
    return agent_of(CONFIG, learner.averaged)


def cut_gradient(model: WorldModel) -> None:
    """Drawn classes no longer pass a gradient, as if there were no straight-through."""
    dynamics: Any = model.dynamics
    believe = dynamics.believe

    def detached(context: Tensor, statistics: Tensor, noise: Tensor | None) -> Any:
        latent = believe(context, statistics, noise)
        sample = latent.stoch.sample.detach()
        return replace(latent, stoch=replace(latent.stoch, sample=sample))

    dynamics.believe = detached


ROW = Row(
    name="categorical",
    idea="a latent of drawn classes learns what comes, through a straight-through gradient",
    broken="drawn classes pass no gradient",
    passes={
        "reward_r2": at_least(0.9),
        "reward_r2_5_ahead": at_least(0.7),
        "image_error_over_hold_last": at_most(0.5),
        "image_error_over_mean_image": at_most(0.5),
    },
    reds=("reward_r2_5_ahead", "image_error_over_mean_image"),
    short=True,
    settings=CONFIG,
    measure=measured,
)
