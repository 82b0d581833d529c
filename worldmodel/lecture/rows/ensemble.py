"""An ensemble: its members disagree where the model errs, most of all away from its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.checks import read
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least
from worldmodel.lecture.trials import Recorded, learn, record, whole
from worldmodel.models import WorldModel
from worldmodel.presets import load_preset

EPISODES, HELDOUT, ROWS = 120, 60, 40
UPDATES = 1000

ONESTEP = read(
    load_preset("onestep"),
    {
        "task": "pendulum",
        "env": {"image_size": 32, "action_repeat": 2, "frames": 2},
        "replay": {"batch": 16, "length": 10},
        "model": {
            "encoder": {"width": 8},
            "decoder": {"width": 4},
            "dynamics": {"size": 16, "hidden_size": 64},
            "ensemble": {"size": 5, "hidden_size": 64},
            "reward": None,
            "discount": None,
        },
        "objective": {
            "image": {"decoded_share": 0.25},
            "ensemble": {},
            "reward": None,
            "discount": None,
            "priority": None,
        },
        "learner": {"precision": "float32"},
    },
)


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    """Only the lower half of the turn is learned from; the upper half is off the data."""
    env = make_env("pendulum", ONESTEP.env)
    known = [each for each in record(env, 2 * EPISODES, ROWS, seed) if highest(each) < 0]
    held = record(env, 2 * HELDOUT, ROWS, seed + 1000)
    change = alike if broken else None
    model = learn(replace(ONESTEP, seed=seed), known[:EPISODES], UPDATES, change=change)
    disagreement, error, height = rows_of(model, held)
    low, high = height < 0, height > 0
    return {
        "rank_correlation": ranks_agree(disagreement, error),
        "higher_off_the_data": times(disagreement[high], disagreement[low]),
        "error_higher_off_the_data": times(error[high], error[low]),
        "rank_correlation_on_the_data": ranks_agree(disagreement[low], error[low]),
        "rank_correlation_off_the_data": ranks_agree(disagreement[high], error[high]),
    }


def highest(recorded: Recorded) -> float:
    """The cosine of the angle from upright, at its largest."""
    return float(recorded.state["orientation"][:, 0].max())


def alike(model: WorldModel) -> None:
    """Give all members the weights of the first."""
    assert model.ensemble is not None
    first, *others = model.ensemble.members
    for other in others:
        other.load_state_dict(first.state_dict())


@torch.no_grad()
def rows_of(model: WorldModel, held: Sequence[Recorded]) -> list[NDArray[np.float64]]:
    """Disagreement, squared error of the predicted latent, and height: of rows that have a past."""
    assert model.ensemble is not None
    seen = model.infer(whole(held), torch.Generator())
    apart = (seen.prior.features - seen.posterior.features).square().sum(-1)
    disagreement = model.ensemble.disagreement(seen.prior.features)
    height = torch.from_numpy(np.stack([each.state["orientation"][:, 0] for each in held]))
    return [part[:, 1:].flatten().double().numpy() for part in (disagreement, apart, height)]


def times(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How many times as large one is as the other, by their means; 1 if both are 0."""
    return float(one.mean() / other.mean()) if other.any() else 1.0


def ranks_agree(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; 0 if one of them is the same everywhere: it ranks nothing."""
    if one.min() == one.max() or other.min() == other.max():
        return 0.0
    first, second = (part.argsort().argsort() for part in (one, other))
    apart = (first - second).astype(np.float64)
    return float(1 - apart.var() / first.var() / 2)


ROW = Row(
    name="ensemble",
    idea="members of an ensemble disagree where the model errs, and most away from its data",
    broken="all members begin with the same weights",
    passes={"rank_correlation": at_least(0.5), "higher_off_the_data": at_least(1.5)},
    reds=("rank_correlation", "higher_off_the_data"),
    short=True,
    settings={"onestep": ONESTEP},
    measure=measure,
)
