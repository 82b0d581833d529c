"""Maps of latent states, and probes that read true quantities from them.

A *map* is the principal components of the beliefs along episodes that were not trained on. A
*probe* is a ridge regression from the belief to one true quantity. Whole episodes are held out: a
probe is evaluated on an episode that it was not fitted on, and its ridge is chosen in the same way.
Neighbouring rows are nearly the same, so a probe with single rows held out would look too good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.analysis.errors import r_squared
from worldmodel.analysis.truth import States

RIDGES = tuple(10.0**power for power in range(-4, 5))  # on standardised features, for each row
FEWEST_EPISODES = 3  # one to evaluate on, two to fit on and to choose the ridge by
CONSTANT = 1e-6  # the standard deviation below which a quantity does not vary

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """Beliefs in three dimensions."""

    points: Rows  # [M, 3] the first principal components, the largest first
    shares: Rows  # [3] of the variance
    row: NDArray[np.int64]  # [M] the row in its episode
    episode: NDArray[np.int64]  # [M]


@dataclass(frozen=True)
class Probe:
    """One true quantity, and its predictions by probes that were not fitted on the same episode."""

    name: str
    true: Rows  # [M]
    read: Rows  # [M]
    r_squared: float
    spread: tuple[float, float]  # the lowest and highest of the episodes' own R^2


def map_latents(features: Sequence[Rows]) -> Map:
    """Principal components of the episodes' features, each [T, F]."""
    rows = np.concatenate(features).astype(np.float64)  # [M, F]
    centred = rows - rows.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(rows), 3))
    kept = min(3, len(axes))
    points[:, :kept] = centred @ axes[:kept].T
    largest = np.abs(points).argmax(0)
    # the sign of a component is arbitrary: make its largest coordinate positive
    points *= np.where(points[largest, range(3)] < 0, -1, 1)
    power = np.zeros(3)
    power[:kept] = sizes[:kept] ** 2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
    return Map(
        points=points,
        shares=power,
        row=np.concatenate([np.arange(len(part)) for part in features]),
        episode=np.repeat(np.arange(len(features)), [len(part) for part in features]),
    )


def probe(features: Sequence[Rows], states: Sequence[States]) -> list[Probe]:
    """Fit a probe for each true quantity that varies, on features [T, F] of each episode."""
    if len(features) < FEWEST_EPISODES:
        raise ValueError(
            f"probe: expected at least {FEWEST_EPISODES} episodes (one to judge, the others to fit"
            f" on and to choose the ridge by), got {len(features)}"
        )
    every = np.concatenate(features)
    scale = every.std(0)
    scale[scale < CONSTANT] = 1.0
    centre = every.mean(0)
    rows = [(part - centre) / scale for part in features]  # [T, F] each
    names = [n for n in states[0] if np.concatenate([s[n] for s in states]).std() > CONSTANT]
    true = [np.stack([s[n] for n in names], 1) for s in states]  # [T, Q] each
    if not names:
        return []
    read = [_judge(rows, true, n) for n in range(len(rows))]
    probes = []
    for column, name in enumerate(names):
        pairs = [(t[:, column], r[:, column]) for t, r in zip(true, read, strict=True)]
        joined = [np.concatenate(part) for part in zip(*pairs, strict=True)]
        alone = [r_squared(t, r) for t, r in pairs if t.std() > CONSTANT]
        spread = (min(alone), max(alone)) if alone else (np.nan, np.nan)
        probes.append(Probe(name, joined[0], joined[1], r_squared(joined[0], joined[1]), spread))
    return probes


def _judge(rows: list[Rows], true: list[Rows], judged: int) -> Rows:
    """[T, Q]: predict one episode by probes fitted on the others, each with its best ridge."""
    others = [n for n in range(len(rows)) if n != judged]
    wrong = np.zeros((len(RIDGES), true[0].shape[1]))
    for left_out in others:
        fitted_on = [n for n in others if n != left_out]
        guesses = _fit(rows, true, fitted_on, rows[left_out])  # [ridges, T, Q]
        wrong += ((guesses - true[left_out]) ** 2).sum(1)
    best = wrong.argmin(0)  # [Q]
    guesses = _fit(rows, true, others, rows[judged])
    return np.stack([guesses[ridge, :, q] for q, ridge in enumerate(best)], 1)


def _fit(rows: list[Rows], true: list[Rows], fitted_on: list[int], asked: Rows) -> Rows:
    """[ridges, T, Q]: ridge regressions; the constant term is not penalised."""
    x = np.concatenate([rows[n] for n in fitted_on])
    y = np.concatenate([true[n] for n in fitted_on])
    x_mean, y_mean = x.mean(0), y.mean(0)
    sizes, axes = np.linalg.eigh((x - x_mean).T @ (x - x_mean))
    target = axes.T @ ((x - x_mean).T @ (y - y_mean))  # [F, Q]
    turned = (asked - x_mean) @ axes  # [T, F]
    shrunk = [target / (sizes.clip(0)[:, None] + ridge * len(x)) for ridge in RIDGES]
    read: Rows = np.stack([turned @ part for part in shrunk]) + y_mean
    return read
