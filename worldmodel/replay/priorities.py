"""Prioritised replay: each row's loss at its last update decides which windows are learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rows at the beginning of a window do not count. The belief is empty there, so their KL is high
# whatever they show: a third of all nats lie in the first two rows (assets/trials/window_rows.csv).
FIRST = 3


class Priorities:
    """A priority for each row of the episodes in memory; infinite until a model learned from it.

    The priority of a window is the mean over its rows without the first few. Checkpoints hold the
    priorities, so that a run which resumes draws the same windows.
    """

    def __init__(self) -> None:
        self._rows: dict[int, NDArray[np.float32]] = {}  # by the episode's number, ascending

    def keep(self, episodes: Iterable[tuple[int, int]]) -> None:
        """Keep the priorities of these episodes (number, rows) and no others."""
        known = self._rows
        self._rows = {
            number: known[number] if number in known else np.full(rows, np.inf, np.float32)
            for number, rows in episodes
        }

    def of_window(self, number: int, begin: int, rows: int) -> float:
        return float(self._rows[number][begin + min(FIRST, rows - 1) : begin + rows].mean())

    def best(
        self, numbers: NDArray[np.int64], begins: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Windows [D, B] -> [B]: the draw of the highest priority; of equal ones the first."""
        priority = np.zeros(numbers.shape)
        for place in np.ndindex(numbers.shape):
            window = int(numbers[place]), int(begins[place]), int(rows[place])
            priority[place] = self.of_window(*window)
        best: NDArray[np.int64] = priority.argmax(0)
        return best

    def update(self, windows: Tensor, priority: Tensor) -> None:
        """Store priorities [B, T] of windows [B, 2] (episode, first row); skip removed episodes."""
        for (number, begin), seen in zip(windows.tolist(), priority.cpu().numpy(), strict=True):
            if number in self._rows:
                rows = self._rows[number][begin : begin + len(seen)]
                first = min(FIRST, len(rows) - 1)
                rows[first:] = seen[first : len(rows)]

    def state(self) -> dict[str, Tensor]:
        return {str(number): torch.from_numpy(rows) for number, rows in self._rows.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the priorities of episodes in memory."""
        for number, rows in self._rows.items():
            known = state.get(str(number))
            if known is not None and len(known) == len(rows):
                rows[:] = known.cpu().numpy()
