"""Starts of a dream: the last images of a few held-out windows, and the beliefs after them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis.predictions import CONTEXT, check_fit, observe, spread
from worldmodel.analysis.source import read_episodes
from worldmodel.checks import ConfigError
from worldmodel.replay import cut
from worldmodel.structs import Episode, Latent, at

STARTS = 6  # to choose from
HELDOUT, REPLAY = "heldout", "replay"  # folders of a run

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Starts:
    """The model saw the images of ``rows`` successive rows, and believes this: [B]"""

    images: NDArray[np.uint8]  # [B, H, W, 3] the camera's, of the last row
    beliefs: Latent  # [B]
    rows: int
    are_heldout: bool  # False: from episodes that the model was trained on


def read_starts(agent: Agent, run: Path) -> Starts:
    """The starts in a run's held-out episodes; without these, in its newest replay episodes."""
    for folder in (HELDOUT, REPLAY):
        paths = sorted((run / folder).glob("*.npz"))[-STARTS:]
        episodes, broken = read_episodes(paths)
        for note in broken:
            logger.warning("%s; it is skipped", note)
        if episodes:
            return starts_of(agent, list(episodes.values()), are_heldout=folder == HELDOUT)
    raise ConfigError(
        f"run: {run} holds no episode in {HELDOUT} or {REPLAY}, and a dream begins at an image of"
        " an episode; train the run a little longer"
    )


def starts_of(agent: Agent, episodes: Sequence[Episode], *, are_heldout: bool = True) -> Starts:
    """Let the model see a few windows, spread evenly over the episodes."""
    try:
        check_fit(agent, episodes)
    except ValueError as error:
        raise ConfigError(f"run: its episodes do not fit its model: {error}") from error
    places, rows = windows_of(episodes)
    windows = cut(episodes, places, rows)
    images = agent.model.spec.shown(windows.image[:, -1].numpy())
    beliefs = at(observe(agent, windows, rows), (slice(None), -1))
    return Starts(images, beliefs, rows, are_heldout)


def windows_of(episodes: Sequence[Episode]) -> tuple[list[tuple[int, int]], int]:
    """The windows of the starts, each as (episode, first row), and how many rows they have."""
    rows = min(CONTEXT, *map(len, episodes))
    return spread(episodes[:STARTS], rows, STARTS), rows
