"""Settings of replay: batches, and the limits of memory and disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from worldmodel.checks import at_least, more_than


@dataclass(frozen=True)
class ReplaySettings:
    """The batches that are drawn, and the limits of memory and disk."""

    batch: Annotated[int, at_least(1)] = 24  # windows in a batch
    length: Annotated[int, at_least(2)] = 12  # rows in a window
    # Prioritised replay: windows drawn for each in a batch, of which the highest priority wins.
    tournament: Annotated[int, at_least(1)] = 2
    # The oldest episodes leave memory (never the disk) beyond this.
    memory_gb: Annotated[float, more_than(0)] = 4.0
    # A run stops with an error before it uses more than this share of the free disk.
    disk_share: Annotated[float, more_than(0, at_most=1)] = 0.5
