"""How much each row surprised when a model last learned from it, and what is worth seeing again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A window begins with an empty memory, so its first rows surprise whoever sees them, and say
# nothing of themselves: a third of all nats lie in the first two (assets/window_rows.csv).
FIRST = 3


class Surprise:
    """Nats by row, for the episodes in memory; what nobody learned from surprises most.

    ``of`` a window is the mean over its rows but the first. Kept beside a run's weights, so that it
    goes on with what it knew.
    """

    def __init__(self) -> None:
        self._nats: dict[int, NDArray[np.float32]] = {}  # by the number of the episode, rising

    def keep(self, episodes: Iterable[tuple[int, int]]) -> None:
        """Of these (number, rows) and no others."""
        known = self._nats
        self._nats = {
            number: known[number] if number in known else np.full(rows, np.inf, np.float32)
            for number, rows in episodes
        }

    def of(self, number: int, begin: int, rows: int) -> float:
        return float(self._nats[number][begin + min(FIRST, rows - 1) : begin + rows].mean())

    def note(self, windows: Tensor, nats: Tensor) -> None:
        """[B, 2] of episode and first row, [B, T]; episodes that have left are skipped."""
        for (number, begin), seen in zip(windows.tolist(), nats.cpu().numpy(), strict=True):
            if number in self._nats:
                rows = self._nats[number][begin : begin + len(seen)]
                first = min(FIRST, len(rows) - 1)
                rows[first:] = seen[first : len(rows)]

    def state(self) -> dict[str, Tensor]:
        return {str(number): torch.from_numpy(nats) for number, nats in self._nats.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Of the episodes that are still in memory."""
        for number, rows in self._nats.items():
            known = state.get(str(number))
            if known is not None and len(known) == len(rows):
                rows[:] = known.cpu().numpy()
