"""Reporting: writes a run's numbers and events to its files and to the screen."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from worldmodel.log import Journal
from worldmodel.progress import Group, Progress
from worldmodel.rollout import Evaluated

SHOWN = (  # on the screen while training, of the numbers in metrics.jsonl
    Group({"score": "score", "train_return": "training"}, has_curves=True),
    Group({"loss/": ""}, "losses", has_curves=True),
    Group(
        {"updates_per_s": "updates/s", "frames_per_s": "frames/s", "plan_ms": "ms a plan"}, "speed"
    ),
)
Numbers = Mapping[str, float | int]


class Reporter:
    """Writes to the journal of a run and to the screen."""

    def __init__(self, journal: Journal, progress: Progress) -> None:
        self._journal = journal
        self._progress = progress

    def numbers(self, numbers: Numbers) -> None:
        """Write a line of ``metrics.jsonl``, and show the same numbers on the screen."""
        self._journal.metrics(numbers)
        self._progress.update(numbers)

    def show(self, numbers: Numbers) -> None:
        """Show numbers of unfinished work, on the screen only."""
        self._progress.update(numbers)

    def event(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self._progress.event(text)

    def evaluation(self, env_steps: int, wall_clock_s: float, evaluated: Evaluated) -> None:
        """Write the returns to ``eval.csv`` and a video; show the score on the screen."""
        returns = evaluated.returns.tolist()
        self._journal.evaluation(env_steps, wall_clock_s, returns, evaluated.seeds)
        self._journal.show(env_steps, evaluated.episodes)
        score = float(np.mean(returns))
        self._progress.update({"score": score})
        self._progress.event(
            f"score {score:.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
            f" at {env_steps:,} env steps"
        )


class LossMeans:
    """Means of the losses over some updates, and the updates per second."""

    def __init__(self) -> None:
        self.updates = 0
        self._sums: dict[str, float] = {}
        self._begun = time.monotonic()

    def add(self, losses: Mapping[str, float]) -> None:
        self.updates += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def numbers(self) -> dict[str, float | int]:
        """The means and the speed, named as in ``metrics.jsonl``."""
        return {
            "updates_per_s": self.updates / (time.monotonic() - self._begun),
            **{f"loss/{name}": value / self.updates for name, value in self._sums.items()},
        }
