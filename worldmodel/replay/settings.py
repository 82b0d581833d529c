"""Settings of replay: the batches that are learned from, and what memory and disk may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from worldmodel.checks import at_least, more_than


@dataclass(frozen=True)
class ReplaySettings:
    """How episodes are kept, and the windows that are drawn from them."""

    batch: Annotated[int, at_least(1)] = 24  # windows in a batch
    length: Annotated[int, at_least(2)] = 12  # rows in a window
    # Windows drawn for each in a batch: the one of the highest priority is learned from.
    tournament: Annotated[int, at_least(1)] = 2
    # The oldest episodes leave memory (never the disk) beyond this.
    memory_gb: Annotated[float, more_than(0)] = 4.0
    # A run stops rather than take more of the free disk than this.
    disk_share: Annotated[float, more_than(0, at_most=1)] = 0.5
