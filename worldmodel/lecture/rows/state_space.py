"""A latent state-space model with rewards: what it reads from images, and what it foresees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from worldmodel.analysis import r_squared
from worldmodel.checks import read
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.lecture.trials import Recorded, believe, learn, record, whole
from worldmodel.models import WorldModel
from worldmodel.presets import load_preset
from worldmodel.structs import Batch, at, flatten

EPISODES, HELD_OUT, ROWS = 100, 30, 40
UPDATES = 1200
PAST, AHEAD = 5, 5  # rows before a belief is asked, and rows that it is asked about

CONFIG = read(
    load_preset("filter"),
    {
        "task": "pendulum",
        "env": {"image_size": 32, "action_repeat": 2},
        "replay": {"batch": 16, "length": 20, "tournament": 1},
        "model": {
            "encoder": {"kind": "slim", "width": 8},
            "decoder": {"width": 8},
            "dynamics": {"hidden_size": 128},
            "posterior": {"hidden_size": 128},
            "reward": {"size": 128},
            "discount": None,
        },
        "objective": {"discount": None, "image": {"decoded_share": 0.5}, "priority": None},
        "learner": {"model_rate": 1e-3, "precision": "float32"},
    },
)


def shifted(recorded: Sequence[Recorded]) -> list[Recorded]:
    """The same episodes, where each row has the action of a row half an episode away."""
    return [
        replace(
            each, episode=replace(each.episode, action=np.roll(each.episode.action, ROWS // 2, 0))
        )
        for each in recorded
    ]


class Foreseen:
    """Rewards and images ``AHEAD`` rows after beliefs with a past, by the model and without it."""

    @torch.no_grad()
    def __init__(self, model: WorldModel, batch: Batch) -> None:
        beliefs = believe(model, batch)
        starts = at(beliefs, (slice(None), slice(PAST, ROWS - AHEAD)))  # [B, S]
        following = batch.action[:, PAST + 1 :].unfold(1, AHEAD, 1).movedim(-1, -2)  # [B, S, L, A]
        others = following.roll(1, 0)  # of another episode
        self.true = batch.reward[:, PAST + AHEAD :]  # [B, S]
        self.held = batch.reward[:, PAST : ROWS - AHEAD]
        self.read = model.reward(beliefs.features)[:, PAST:]  # of rows that were seen
        self.seen = batch.reward[:, PAST:]
        last = [
            at(model.imagine(starts, a, None), (slice(None), slice(None), -1))
            for a in (following, others)
        ]
        self.right, self.wrong = (model.reward(latent.features) for latent in last)
        images = batch.image.float() / 255
        target = images[:, PAST + AHEAD :]
        drawn = model.decode(flatten(last[0])).float().reshape(target.shape) / 255
        self.image_errors = {
            "model": mse(drawn, target),
            "hold_last": mse(images[:, PAST : ROWS - AHEAD], target),
            "mean_image": mse(images.mean((0, 1)).expand(target.shape), target),
        }


def mse(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean())


def r2(true: Tensor, guessed: Tensor) -> float:
    return r_squared(true.double().numpy().ravel(), guessed.double().numpy().ravel())


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    env = make_env("pendulum", CONFIG.env)
    seen, held = (record(env, n, ROWS, 1000 * seed + n) for n in (EPISODES, HELD_OUT))
    model = learn(replace(CONFIG, seed=seed), shifted(seen) if broken else seen, UPDATES)
    found = Foreseen(model, whole(held))
    errors = found.image_errors
    return {
        "reward_r2": r2(found.seen, found.read),
        "reward_r2_5_ahead": r2(found.true, found.right),
        "hold_last_reward_r2_5_ahead": r2(found.true, found.held),
        "image_error_5_ahead_over_hold_last": errors["model"] / errors["hold_last"],
        "image_error_5_ahead_over_mean_image": errors["model"] / errors["mean_image"],
        "reward_error_of_other_actions_over_true_ones": mse(found.wrong, found.true)
        / mse(found.right, found.true),
    }


ROW = Row(
    name="state_space",
    idea="a latent state-space model reads rewards from images, and foresees them by its actions",
    broken="each row has the action of a row half an episode away",
    passes={
        "reward_r2": at_least(0.9),
        "reward_r2_5_ahead": at_least(0.7),
        "image_error_5_ahead_over_hold_last": at_most(0.7),
        "image_error_5_ahead_over_mean_image": at_most(0.7),
        "reward_error_of_other_actions_over_true_ones": at_least(1.3),
    },
    reds=("reward_error_of_other_actions_over_true_ones",),
    short=True,
    settings=CONFIG,
    measure=measure,
)
