"""Settings of replay: batches, and the limits of memory and disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from worldmodel.checks import at_least, more_than


@dataclass(frozen=True)
class ReplaySettings:
    """The batches that are drawn, and the limits of memory and disk."""

    batch: Annotated[int, at_least(1)] = 24
    """Windows of episodes that one update learns from. Larger: steadier gradients, and slower
    updates."""
    length: Annotated[int, at_least(2)] = 12
    """Rows of one window. Larger: the model learns to remember for longer, and updates are
    slower."""
    tournament: Annotated[int, at_least(1)] = 2
    """Windows that are drawn for each place of a batch; the one with the highest priority is
    learned from. 1: none is preferred."""
    memory_gb: Annotated[float, more_than(0)] = 4.0
    """GB of episodes that are kept in memory. Beyond it the oldest leave memory, never the disk."""
    disk_share: Annotated[float, more_than(0, at_most=1)] = 0.5
    """Share of the free disk that a run may fill. It stops with an error before it uses more."""
