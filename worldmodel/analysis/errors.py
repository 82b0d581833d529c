"""Errors of the model's predictions, compared with guesses that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis.predictions import (
    AHEAD,
    CONTEXT,
    FUTURES,
    events,
    expect,
    predict_reward,
    spread,
)
from worldmodel.replay import cut
from worldmodel.structs import Batch, Episode, Latent, Spec

WINDOWS = 100  # over all episodes; windows of 50 rows take about twenty seconds on one core
CHUNK = 16  # windows imagined at once

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class HorizonErrors:
    """Mean squared errors of open-loop prediction, by how far ahead; pixels lie in [0, 1].

    At each distance all errors are measured on the same rows of the same windows. *hold-last*
    repeats the last row of the context. The mean reward is the mean of all predicted rows' true
    rewards: no other constant has a smaller error on them.
    """

    ahead: NDArray[np.int64]  # [L] rows after the context, 1 is the first
    windows: NDArray[np.int64]  # [L] the number of windows that have this row
    model: Curve  # [L] of images, as the next two are
    hold_last: Curve
    mean_image: Curve
    reward_model: Curve  # [L] of rewards, as the next two are
    reward_hold_last: Curve
    reward_mean: Curve
    # [E, L] of images, each episode's own mean; NaN where it has no window with this row
    model_by_episode: Curve
    hold_last_by_episode: Curve
    mean_image_by_episode: Curve

    def at(self, ahead: int) -> HorizonErrors:
        """The errors ``ahead`` rows ahead, or at the furthest distance measured: L is 1."""
        index = min(ahead, len(self.ahead)) - 1
        return replace(self, **{f.name: getattr(self, f.name)[..., [index]] for f in fields(self)})


@dataclass(frozen=True)
class RewardFit:
    """Rewards that the model reads from its beliefs, and the true ones."""

    true: NDArray[np.float32]  # [M]
    model: NDArray[np.float32]  # [M]

    @property
    def r_squared(self) -> float:
        return r_squared(self.true.astype(np.float64), self.model)


def r_squared(true: Curve, read: NDArray[np.floating]) -> float:
    """R²: 1 if every number is right, 0 if no better than their mean, NaN if all are the same."""
    total = float(((true - true.mean()) ** 2).sum())
    wrong = float(((true - read) ** 2).sum())
    return 1 - wrong / total if total > 0 else float("nan")


def psnr(squared_error: Curve) -> Curve:
    """Peak signal-to-noise ratio in decibels: higher is better, infinite without error."""
    with np.errstate(divide="ignore"):
        decibels: Curve = -10 * np.log10(squared_error)
    return decibels


def long_enough(episodes: Sequence[Episode], context: int) -> list[Episode]:
    """The episodes with a row to predict after the context; ValueError if there is none."""
    kept = [episode for episode in episodes if len(episode) > context]
    if not kept:
        lengths = ", ".join(str(len(episode)) for episode in episodes)
        raise ValueError(
            f"episodes: expected at least {context + 1} rows ({context} of context and one to"
            f" predict), got {lengths}; give longer episodes, for example with a smaller"
            " env.action_repeat"
        )
    return kept


def measure(
    agent: Agent,
    episodes: Sequence[Episode],
    mean_image: NDArray[np.floating],
    *,
    context: int = CONTEXT,
    ahead: int = AHEAD,
    windows: int = WINDOWS,
    before_events: bool = False,
) -> HorizonErrors:
    """Open-loop errors over all episodes; ``mean_image`` [H, W, 3] in [0, 1].

    The model's guess is the mean of FUTURES futures that it imagines. ``before_events``: half of
    the windows begin shortly before the largest changes of the image. Without it, the windows of a
    long episode may all lie where nothing happens, and then say nothing about foresight.
    """
    episodes = long_enough(episodes, context)
    rows = min(context + ahead, max(len(episode) for episode in episodes))
    begins = spread(episodes, rows, windows // 2 if before_events else windows)
    if before_events:
        begins += events(episodes, rows, windows - windows // 2, context, agent.model.spec)
        begins = list(dict.fromkeys(begins))  # a short episode has the same windows twice
    squared: dict[str, list[NDArray[np.float64]]] = {}  # name: chunks of [B, L]
    for first in range(0, len(begins), CHUNK):
        batch = cut(episodes, begins[first : first + CHUNK], rows)
        for name, part in _squared_errors(agent, batch, mean_image, context).items():
            squared.setdefault(name, []).append(part)
    every = {name: np.concatenate(parts) for name, parts in squared.items()}
    valid = every.pop("valid").astype(np.bool_)  # [B, L]
    reached = valid.sum(0)  # [L]
    reward = every.pop("reward")
    every["reward_mean"] = (reward - (reward * valid).sum() / valid.sum()) ** 2
    of_episode = np.array([number for number, _ in begins]) == np.arange(len(episodes))[:, None]
    return HorizonErrors(
        ahead=np.arange(1, rows - context + 1),
        windows=reached.astype(np.int64),
        **{name: (part * valid).sum(0) / reached for name, part in every.items()},
        **{
            f"{name}_by_episode": _means_of_episodes(every[name], valid, of_episode)
            for name in ("model", "hold_last", "mean_image")
        },
    )


def _means_of_episodes(
    squared: Curve, valid: NDArray[np.bool_], of_episode: NDArray[np.bool_]
) -> Curve:
    """[B, L], [B, L], [E, B] -> [E, L]"""
    counts = of_episode.astype(np.float64) @ valid
    sums: Curve = of_episode.astype(np.float64) @ (squared * valid)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def fit_reward(agent: Agent, windows: Batch, beliefs: Latent) -> RewardFit:
    """Compare predicted with true rewards over whole episodes [B, T].

    The first row does not count, because it follows no action.
    """
    counts = windows.valid.numpy()[:, 1:]
    predicted = predict_reward(agent, beliefs.features)[:, 1:]
    return RewardFit(windows.reward.numpy()[:, 1:][counts], predicted[counts])


def mean_of(episodes: Sequence[Episode], spec: Spec) -> Curve:
    """[H, W, 3] in [0, 1]: the mean of all images of the episodes."""
    sums = np.stack([spec.shown(e.image).sum(0, dtype=np.float64) for e in episodes])
    mean: Curve = sums.sum(0) / (255 * sum(len(episode) for episode in episodes))
    return mean


def _squared_errors(
    agent: Agent, windows: Batch, mean_image: NDArray[np.floating], context: int
) -> dict[str, NDArray[np.float64]]:
    """Squared errors of each imagined row: [B, L]"""
    images = agent.model.spec.shown(windows.image.numpy()) / np.float32(255)
    truth, seen = images[:, context:], images[:, context - 1 : context]  # [B, L or 1, H, W, 3]
    model, model_reward = expect(agent, windows, context, FUTURES)
    guesses: dict[str, NDArray[np.floating]] = {
        "model": model,
        "hold_last": seen,
        "mean_image": mean_image.astype(np.float32),
    }
    squared = {
        name: ((guess - truth) ** 2).mean((2, 3, 4), dtype=np.float64)
        for name, guess in guesses.items()
    }
    every = windows.reward.numpy().astype(np.float64)  # [B, T]
    reward = every[:, context:]
    squared["reward_model"] = (model_reward - reward) ** 2
    squared["reward_hold_last"] = (every[:, context - 1 : context] - reward) ** 2
    return {**squared, "reward": reward, "valid": windows.valid.numpy()[:, context:]}
