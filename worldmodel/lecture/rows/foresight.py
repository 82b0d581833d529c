"""Visual foresight: moving kernels predict the planar world five actions ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from worldmodel.assembly import learner_of
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least
from worldmodel.models import WorldModel, build
from worldmodel.presets import load_preset
from worldmodel.replay import cut
from worldmodel.rollout import play_wandering
from worldmodel.structs import Batch, Episode, Spec, at

HELD_OUT = 20  # episodes
CONTEXT, AHEAD = 2, 5  # rows that are seen, and rows that are predicted after them
MOVES = 0.08  # a pixel moves if a colour of it (0 to 1) changes by more

CONFIG = load_preset("foresight")


def measured(seed: int, broken: bool) -> Mapping[str, float]:
    training, held_out = episodes_of(seed)
    model = learned(training, seed, broken)
    begins = [(number, row) for number in range(HELD_OUT) for row in (0, 10, 20, 30)]
    rows = cut(held_out, begins, CONTEXT + AHEAD)
    truth, last_seen = (shares(rows.image[:, row - 1]) for row in (CONTEXT + AHEAD, CONTEXT))
    mean = shares(torch.from_numpy(np.concatenate([episode.image for episode in training]))).mean(0)
    moves = ((truth - last_seen).abs().amax(-1, keepdim=True) > MOVES).float()

    def decibels(image: Tensor) -> float:
        """Of pixels that changed since the last image that was seen: higher is better."""
        error = (image - truth).square() * moves
        return float(-10 * (error.sum() / (moves.sum() * truth.shape[-1])).log10())

    model_db, wrong_db = (decibels(predicted(model, rows, sign)) for sign in (1.0, -1.0))
    hold_db, mean_db = decibels(last_seen), decibels(mean.expand_as(truth))
    return {
        "above_hold_last_db": model_db - hold_db,
        "above_mean_image_db": model_db - mean_db,
        "wrong_actions_cost_db": model_db - wrong_db,
        "model_db": model_db,
        "hold_last_db": hold_db,
        "mean_image_db": mean_db,
    }


def episodes_of(seed: int) -> tuple[Sequence[Episode], Sequence[Episode]]:
    """Episodes of random moves to learn from, and others to judge by."""
    env, training = make_env(CONFIG.task, CONFIG.env), CONFIG.loop.seed_episodes
    episodes = [
        play_wandering(env, 10_000 * seed + number, CONFIG.exploration.memory).episode  # type: ignore[union-attr]
        for number in range(training + HELD_OUT)
    ]
    return episodes[:training], episodes[training:]


def learned(episodes: Sequence[Episode], seed: int, broken: bool) -> WorldModel:
    """A model of these episodes; ``broken``: windows have the actions of others."""
    torch.manual_seed(seed)
    height, width, channels = episodes[0].image.shape[1:]
    spec = Spec((height, width, channels), action_size=episodes[0].action.shape[1])
    learner = learner_of(replace(CONFIG, seed=seed), build(CONFIG.model, spec))
    random, length = np.random.default_rng(seed), CONFIG.replay.length
    for _ in range(CONFIG.loop.seed_updates):
        which = random.integers(len(episodes), size=CONFIG.replay.batch).tolist()
        begins = [int(random.integers(len(episodes[number]) - length + 1)) for number in which]
        batch = cut(episodes, list(zip(which, begins, strict=True)), length)
        if broken:
            batch = replace(batch, action=batch.action.roll(1, 0))
        learner.update(batch)
    return learner.averaged


@torch.no_grad()
def predicted(model: WorldModel, rows: Batch, sign: float) -> Tensor:
    """The image AHEAD rows after the context, with the actions done times ``sign``: [B, H, W, C]"""
    seen = slice(None), slice(CONTEXT)
    embeds = model.embed(rows.image[seen])
    beliefs = model.beliefs(rows.action[seen], embeds, rows.valid[seen])
    actions = sign * rows.action[:, CONTEXT:]
    futures = model.imagine(at(beliefs, (slice(None), -1)), actions, None)
    return shares(model.decode(at(futures, (slice(None), -1))))


def shares(image: Tensor) -> Tensor:
    """Bytes as colours from 0 to 1."""
    return image.float() / 255


ROW = Row(
    name="foresight",
    idea="an image five actions ahead is the last one, moved by kernels that know the actions",
    broken="the actions of every window are told to be those of another one",
    passes={
        "above_hold_last_db": at_least(1.0),
        "above_mean_image_db": at_least(1.0),
        "wrong_actions_cost_db": at_least(1.0),
    },
    reds=("above_mean_image_db", "wrong_actions_cost_db"),
    short=True,
    settings=CONFIG,
    measure=measured,
)
