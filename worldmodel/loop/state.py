"""The counters of a run, which its checkpoint saves, and what a caller learns of each round."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunState:
    """The counters of a run. A checkpoint saves ``dataclasses.asdict`` of them."""

    rounds: int = 0  # finished ones
    updates: int = 0  # skipped ones included
    seed_env_steps: int = 0  # collected before the planner acts
    next_evaluation: int = 0  # env_steps
    wall_clock_s: float = 0.0  # of all calls that worked on this run
    returns: Sequence[float] = ()  # of the last evaluation
    evaluated_at: int = 0  # updates at the last final evaluation
    dropped: int = 0  # episodes
    replaced: int = 0  # collecting processes that died or hung
    skipped: int = 0  # updates whose gradient was NaN or infinite

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> RunState:
        """The counters in a checkpoint; those that an older one lacks have their defaults."""
        names = [field.name for field in dataclasses.fields(cls) if field.name in saved]
        return dataclasses.replace(cls(), **{name: saved[name] for name in names})


@dataclass(frozen=True)
class Round:
    """What a run has reached after a round, or after its final evaluation: plain numbers."""

    run: Path
    round: int  # finished rounds of all calls on this run
    env_steps: int
    episodes: int
    updates: int
    wall_clock_s: float  # of all calls on this run
    # The latest numbers with the names of metrics.jsonl: losses, speeds, train_return. Where this
    # round evaluated, its mean score too, as "score".
    metrics: Mapping[str, float]
    returns: Sequence[float] = ()  # of the episodes of this round's evaluation; empty without one
    is_final: bool = False  # after the final evaluation
