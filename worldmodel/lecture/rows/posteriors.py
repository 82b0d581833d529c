"""What each posterior knows of a velocity that no single image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.checks import read
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.lecture.trials import PENDULUM, Recorded, believe, learn, probe, record
from worldmodel.models import WorldModel
from worldmodel.presets import load_preset
from worldmodel.replay import cut
from worldmodel.structs import Batch

EPISODES, HELD_OUT, ROWS = 100, 40, 40
WINDOW, APART = 20, 10  # rows of a window that is probed, and from one's first row to the next's
PAST = 5  # rows after which a past is long enough
UPDATES = {"vae": 400, "filter": 700, "smoother": 600}

SMALL = {**PENDULUM, "replay": {"batch": 16, "length": WINDOW, "tournament": 1}}
CONFIGS = {name: read(load_preset(name), SMALL) for name in UPDATES}


def windows(recorded: list[Recorded]) -> tuple[Batch, NDArray[np.float64]]:
    """Windows from several places of each episode, and sine, cosine, velocity: [B, T], [B, T, 3]"""
    begins = [(n, b) for n in range(len(recorded)) for b in range(0, ROWS - WINDOW + 1, APART)]
    batch = cut([each.episode for each in recorded], begins, WINDOW)
    true = [
        np.concatenate([recorded[n].state["orientation"], recorded[n].state["velocity"]], -1)[
            b : b + WINDOW
        ]
        for n, b in begins
    ]
    return batch, np.stack(true).astype(np.float64)


@torch.no_grad()
def means(model: WorldModel, batch: Batch) -> Tensor:
    """The means of what the learned posterior believes, a smoother with later images: [B, T, F]"""
    embeds = model.embed(batch.image)
    return model.observe(batch.action, embeds, batch.valid, None)[1].features


def blind(model: WorldModel) -> None:
    """The filter gets nothing from its past, and cannot learn to."""
    posterior: Any = model.posterior
    posterior.of_context.requires_grad_(False).weight.zero_()


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    """``first_row``: of the first rows of windows, which have later rows and no past."""
    env = make_env("pendulum", CONFIGS["filter"].env)
    seen, held = (record(env, n, ROWS, 1000 * seed + n) for n in (EPISODES, HELD_OUT))
    (batch, true), (asked, wanted) = windows(seen), windows(held)

    def r2(features: Tensor, others: Tensor, rows: slice) -> NDArray[np.float64]:
        """Of cosine, sine and velocity."""
        return probe(features[:, rows], true[:, rows], others[:, rows], wanted[:, rows])

    later, first = slice(PAST, None), slice(0, 1)
    figures: dict[str, float] = {}
    models: dict[str, WorldModel] = {}
    for name, config in CONFIGS.items():
        change = blind if broken and name == "filter" else None
        models[name] = learn(replace(config, seed=seed), seen, UPDATES[name], change=change)
        features, others = means(models[name], batch), means(models[name], asked)
        known = r2(features, others, later)
        kind = config.model.posterior.kind
        figures[f"{kind}_velocity_r2"] = known[2]
        figures[f"{kind}_angle_r2"] = min(known[:2])
        figures[f"{kind}_velocity_r2_in_first_row"] = r2(features, others, first)[2]
    features, others = (believe(models["smoother"], part).features for part in (batch, asked))
    figures["acting_filter_velocity_r2"] = r2(features, others, later)[2]
    figures["smoother_over_filter_in_first_row"] = (
        figures["smoother_velocity_r2_in_first_row"] - figures["filter_velocity_r2_in_first_row"]
    )
    return figures


ROW = Row(
    name="posteriors",
    idea="a filter knows a velocity that no single image shows, a smoother even before any past",
    broken="the filter reads each image without its past",
    passes={
        "one_step_velocity_r2": at_most(0.1),
        "filter_velocity_r2": at_least(0.4),
        "smoother_over_filter_in_first_row": at_least(0.15),
    },
    reds=("filter_velocity_r2",),
    short=True,
    settings={"updates": UPDATES, **CONFIGS},
    measure=measure,
)
