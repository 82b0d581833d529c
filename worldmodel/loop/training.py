"""Training: a model learns from a replay; its whole state is saved and restored."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from worldmodel import checkpoint
from worldmodel.assembly import learner_of
from worldmodel.checkpoint import Checkpoint, Made
from worldmodel.checks import kinds_of_parts
from worldmodel.config import Config
from worldmodel.log import Journal
from worldmodel.loop.reporter import LossMeans, Reporter
from worldmodel.loop.state import RunState
from worldmodel.models import WorldModel
from worldmodel.replay import Replay

REPORT_SECONDS = 2.0  # between two reports of the losses while learning
# Groups of a checkpoint in which no number may be NaN or infinite. Priorities are not among them:
# those of rows that were never learned from are infinite.
FINITE = ("model", "averaged", "acting", "optimizer", "learner")


class Training:
    """Model, learner, replay, journal and counters of one run.

    It knows no environment: its owner adds episodes to ``replay`` and says until which update to
    learn. ``count`` changes the counters in ``state``.
    """

    def __init__(self, config: Config, run: Path, model: WorldModel, replay: Replay) -> None:
        self.run = run
        self.model = model
        self.made = Made(model.spec, {**kinds_of_parts(config.model), **kinds_of_parts(config)})
        self.replay = replay
        self.learner = learner_of(config, model)
        self.journal = Journal(run)
        self.data_random = np.random.default_rng(config.seed)
        self.state = RunState()
        self.saved_at = -np.inf  # of time.monotonic
        self._begun = time.monotonic()

    @property
    def wall_clock_s(self) -> float:
        """Seconds of all calls that worked on this run."""
        return self.state.wall_clock_s + time.monotonic() - self._begun

    def where(self) -> dict[str, float | int]:
        """The run's progress: the first two numbers of a line of ``metrics.jsonl``."""
        return {"env_steps": self.replay.env_steps, "wall_clock_s": self.wall_clock_s}

    def count(self, **counters: Any) -> None:
        """Set some counters of ``state``."""
        self.state = dataclasses.replace(self.state, **counters)

    def learn(
        self,
        until: int,
        ended: Callable[[], bool],
        reporter: Reporter,
        updated: Callable[[float], object],
    ) -> None:
        """Make updates until the total is ``until``, or until ``ended()``.

        Call ``updated`` after each one, with the seconds that it took.
        """
        losses = LossMeans()
        reported = time.monotonic()
        while self.state.updates < until and not ended():
            begun = time.monotonic()
            losses.add(self._update(reporter))
            updated(time.monotonic() - begun)
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                reporter.show({**self.where(), **self._learned(losses)})
        if losses.updates:
            reporter.numbers({**self.where(), **self._learned(losses)})

    def _learned(self, losses: LossMeans) -> dict[str, float | int]:
        return {
            "updates": self.state.updates,
            "skipped_updates": self.state.skipped,
            **losses.numbers(),
        }

    def _update(self, reporter: Reporter) -> Mapping[str, float]:
        """Learn from one batch and return the losses."""
        behaviour = self.learner.behaviour
        first = 0 if behaviour is None else behaviour.first_episode
        batch = self.replay.sample(self.data_random, first)
        update = self.learner.update(batch)
        if update.priority is not None:
            self.replay.learned_from(batch.window, update.priority)
        self.count(updates=self.state.updates + 1)
        if update.skipped:
            if self.state.skipped == 0:
                reporter.event(
                    f"update {self.state.updates:,} was skipped: its gradient was NaN or infinite;"
                    " later ones are counted as skipped_updates in metrics.jsonl"
                )
            self.count(skipped=self.state.skipped + 1)
        return update.metrics

    def save(self, others: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write a checkpoint, with ``others``: groups of tensors that the caller restores."""
        checkpoint.save(
            self.run / "checkpoints",
            self.state.updates,
            {
                "model": self.model.state_dict(),
                "averaged": self.learner.averaged.state_dict(),
                **others,
                "optimizer": checkpoint.pack_optimizer(self.learner.optimizer),
                "learner": self.learner.state(),
                "priorities": self.replay.state(),
            },
            {
                **dataclasses.asdict(self.state),
                "wall_clock_s": self.wall_clock_s,
                "episodes": self.replay.episodes,
                "env_steps": self.replay.env_steps,
                "data_random": checkpoint.numpy_state(self.data_random),
                "journal": self.journal.position(),
            },
            finite=FINITE,
            made=self.made,
        )
        self.saved_at = time.monotonic()

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is complete and finite; None before the first."""
        device = next(self.model.parameters()).device
        return checkpoint.load(self.run / "checkpoints", device, FINITE, self.made)

    def restore(self, saved: Checkpoint) -> None:
        """Continue from ``saved``. The replay must hold its episodes already."""
        self.model.load_state_dict(saved.tensors["model"])
        self.learner.averaged.load_state_dict(saved.tensors["averaged"])
        checkpoint.unpack_optimizer(self.learner.optimizer, saved.tensors["optimizer"])
        self.learner.restore(saved.tensors["learner"])
        self.replay.restore(saved.tensors["priorities"])
        self.state = RunState.restored(saved.state)
        checkpoint.set_numpy_state(self.data_random, saved.state["data_random"])
        self.journal.rewind(saved.state["journal"])
