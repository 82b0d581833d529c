"""The counters of a run, which its checkpoint saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunState:
    """The counters of a run. A checkpoint saves ``dataclasses.asdict`` of them."""

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
