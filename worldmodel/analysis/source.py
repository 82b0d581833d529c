"""Read a run's folder for an analysis: held-out episodes, scores, losses, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis.errors import mean_of
from worldmodel.checks import ConfigError
from worldmodel.log import EVALUATIONS, METRICS, Evaluation, read_evaluations, read_metrics
from worldmodel.replay import BrokenEpisodeError, read_episode
from worldmodel.structs import Episode

TRAINING_EPISODES = 20  # read for the mean image, evenly over the run


@dataclass(frozen=True)
class Source:
    """A run's folder, which training may still be writing."""

    run: Path
    heldout: dict[int, Episode] = field(default_factory=dict)  # by number in the last evaluation
    notes: list[str] = field(default_factory=list)  # of files that could not be read

    def evaluations(self) -> list[Evaluation]:
        path = self.run / EVALUATIONS
        return read_evaluations(path) if path.exists() else []

    def metrics(self) -> list[dict[str, Any]]:
        path = self.run / METRICS
        return read_metrics(path) if path.exists() else []

    def settings(self) -> str:
        path = self.run / "config.yaml"
        return path.read_text() if path.exists() else ""

    def seeds(self) -> list[int] | None:
        """The seeds of the held-out episodes; None if the run did not record them."""
        last = self.evaluations()[-1:]
        if not last or max(self.heldout, default=0) >= len(last[0].seeds):
            return None
        return [last[0].seeds[number] for number in self.heldout]


def read_source(run: Path) -> Source:
    """The run and its held-out episodes; ConfigError if there is none."""
    paths = [path for path in sorted((run / "heldout").glob("*.npz")) if path.stem.isdecimal()]
    episodes, broken = read_episodes(paths)
    if not episodes:
        remedy = (
            f"; {broken[0]}: delete it and train on: the next evaluation brings others"
            if broken
            else " yet; the first evaluation brings some, so train a little longer"
        )
        raise ConfigError(f"run: {run / 'heldout'} holds no episode{remedy}")
    heldout = {int(path.stem): episode for path, episode in episodes.items()}
    return Source(run, heldout, [f"{note}; it is skipped" for note in broken])


def mean_image(agent: Agent, episodes: Sequence[Episode], run: Path | None) -> NDArray[np.floating]:
    """[H, W, 3] in [0, 1]: the mean of the run's training images.

    Without training images: the mean that the model was fitted with; without it, that of
    ``episodes``.
    """
    spec = agent.model.spec
    if run is not None:
        paths = sorted((run / "replay").glob("*.npz"))
        picks = np.linspace(0, len(paths) - 1, min(TRAINING_EPISODES, len(paths))).round()
        trained, _ = read_episodes([paths[int(pick)] for pick in picks])
        if trained:
            return mean_of(list(trained.values()), spec)
    fitted = agent.model.pixels.mean.cpu().numpy()  # [H, W, C]
    is_fitted = bool((fitted != 0.5).any())  # it starts as one half everywhere
    return spec.shown(fitted) if is_fitted else mean_of(episodes, spec)


def read_episodes(paths: Sequence[Path]) -> tuple[dict[Path, Episode], list[str]]:
    """The episodes that can be read, and a sentence on each of the others."""
    episodes, broken = {}, []
    for path in paths:
        try:
            episodes[path] = read_episode(path)
        except BrokenEpisodeError as error:
            broken.append(str(error))
    return episodes, broken
