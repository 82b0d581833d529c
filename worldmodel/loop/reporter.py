"""Reporting: writes a run's numbers and events to its files and to the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.log import Evaluation, Journal
from worldmodel.loop.state import Round, RunState
from worldmodel.progress import Group, Progress
from worldmodel.rollout import Evaluated

# Shown on the screen while training, of the numbers in metrics.jsonl
SHOWN = (
    Group(
        {"updates_per_s": "updates/s", "frames_per_s": "frames/s", "plan_ms": "ms a plan"}, "speed"
    ),
    Group(
        {
            "loss/kl_dynamics": "latent prediction",
            "loss/kl_representation": "latent regularity",
            "loss/reward": "reward prediction",
            "loss/discount": "end of an episode",
            "loss/image": "image reconstruction",
            "loss/vectors": "vector reconstruction",
        },
        "model",
        has_curves=True,
        direction="lower is better",
    ),
    Group(
        {
            "loss/imagined_return": "return it imagines",
            "loss/value": "value prediction",
            "loss/policy": "policy gradient",
            "loss/entropy": "randomness of policy",
            "loss/saturation": "actions at limits",
            "loss/return_scale": "spread of returns",
        },
        "behaviour",
        has_curves=True,
        directions={"loss/imagined_return": "should grow", "loss/value": "lower is better"},
    ),
    Group({"loss/": ""}, "other parts", has_curves=True),
)
Numbers = Mapping[str, float | int]
OnRound = Callable[[Round], object]
"""Called with the numbers of each round, for example to send them to a dashboard."""


class Reporter:
    """Writes to the journal of a run and to the screen."""

    def __init__(
        self, journal: Journal, progress: Progress, on_round: OnRound | None = None
    ) -> None:
        self._journal = journal
        self._progress = progress
        self._on_round = on_round
        self._latest: dict[str, float | int] = {}  # of each name in metrics.jsonl
        self._returns: Sequence[float] = ()  # of an evaluation since the last round's end

    def numbers(self, numbers: Numbers) -> None:
        """Write a line of ``metrics.jsonl``, and show the same numbers on the screen."""
        self._journal.metrics(numbers)
        self._latest |= numbers
        self._progress.update(numbers)

    def show(self, numbers: Numbers) -> None:
        """Show numbers of unfinished work, on the screen only."""
        self._progress.update(numbers)

    def phase(self, what: str, detail: str, left_s: float | None) -> None:
        """Show what the run does now, and the seconds that are left if they are known."""
        self._progress.phase(what, detail, left_s)

    def checkpoint(self, env_steps: int, wall_clock_s: float) -> None:
        """Show when the newest checkpoint was written."""
        self._progress.update(
            {"checkpoint_env_steps": env_steps, "checkpoint_wall_clock_s": wall_clock_s}
        )

    def round(self, run: Path, where: Numbers, state: RunState, is_final: bool) -> None:
        """Call ``on_round`` with what the run has reached."""
        returns, self._returns = self._returns, ()
        if self._on_round is None:
            return
        score = {"score": float(np.mean(returns))} if len(returns) else {}
        self._on_round(
            Round(
                run=run,
                round=state.rounds,
                env_steps=int(where["env_steps"]),
                episodes=int(where["episodes"]),
                updates=state.updates,
                wall_clock_s=where["wall_clock_s"],
                metrics={**self._latest, **score},
                returns=returns,
                is_final=is_final,
            )
        )

    def remember(
        self, metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation]
    ) -> None:
        """Take what earlier calls wrote, so that the screen shows the whole run."""
        scores = [_score(each.env_steps, each.returns) for each in evaluations]
        for numbers in (*scores, *metrics):
            self._progress.remember(numbers)

    def event(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self._progress.event(text)

    def evaluation(self, env_steps: int, wall_clock_s: float, evaluated: Evaluated) -> None:
        """Write the returns to ``eval.csv`` and a video; show the score on the screen."""
        returns = evaluated.returns.tolist()
        self._journal.evaluation(env_steps, wall_clock_s, returns, evaluated.seeds)
        self._journal.show(env_steps, evaluated.videos)
        self._returns = tuple(returns)
        score = float(np.mean(returns))
        self._progress.update(_score(env_steps, returns))
        self._progress.event(
            f"score {score:.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
            f" at {env_steps:,} env steps"
        )


def _score(env_steps: int, returns: Sequence[float]) -> dict[str, float | int]:
    """The numbers of an evaluation, as the screen names them."""
    return {
        "score": float(np.mean(returns)),
        "score_std": float(np.std(returns)),
        "score_episodes": len(returns),
        "score_env_steps": env_steps,
    }


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
