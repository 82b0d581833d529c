"""Reporting: a run's numbers and events go to its files and to the screen from one place."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from worldmodel.log import Journal
from worldmodel.progress import Group, Progress
from worldmodel.rollout import Evaluated

SHOWN = (  # of a row of metrics.jsonl, while it trains
    Group({"score": "score", "train_return": "training"}, has_curves=True),
    Group({"loss/": ""}, "losses", has_curves=True),
    Group(
        {"updates_per_s": "updates/s", "frames_per_s": "frames/s", "plan_ms": "ms a plan"}, "speed"
    ),
)
Row = Mapping[str, float | int]


class Reporter:
    """Feeds the journal and the screen of one sitting."""

    def __init__(self, journal: Journal, progress: Progress) -> None:
        self._journal = journal
        self._progress = progress

    def numbers(self, row: Row) -> None:
        """A line of ``metrics.jsonl``, and the same numbers on the screen."""
        self._journal.metrics(row)
        self._progress.update(row)

    def show(self, row: Row) -> None:
        """On the screen alone: numbers of work that is not done yet."""
        self._progress.update(row)

    def event(self, text: str) -> None:
        """A line that stays on the screen."""
        self._progress.event(text)

    def evaluation(self, env_steps: int, wall_clock_s: float, evaluated: Evaluated) -> None:
        """The returns to ``eval.csv``, a film of the episodes, the score to the screen."""
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
    """Means of the losses over some updates, and how many updates a second brings."""

    def __init__(self) -> None:
        self.updates = 0
        self._sums: dict[str, float] = {}
        self._begun = time.monotonic()

    def add(self, losses: Mapping[str, float]) -> None:
        self.updates += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def row(self) -> dict[str, float | int]:
        """As ``metrics.jsonl`` names them."""
        return {
            "updates_per_s": self.updates / (time.monotonic() - self._begun),
            **{f"loss/{name}": value / self.updates for name, value in self._sums.items()},
        }
