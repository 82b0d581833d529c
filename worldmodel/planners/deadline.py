"""The clock that a search asks: is there time for another slice of candidates?"""

from __future__ import annotations

import math
from collections.abc import Callable


class Deadline:
    """Out of time where the longest slice so far, once more, would end too late.

    ``slice_s`` is what one should take; 0 where nobody knows, and the first slice is then scored if
    there is any time at all. A search ends before its deadline unless one slice takes longer than
    that and all before it.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        begun: float,
        deadline_ms: float | None,
        slice_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._ends_at = math.inf if deadline_ms is None else begun + deadline_ms / 1e3
        self._asked_at: float | None = None
        self._expected = slice_s
        self.longest: float | None = None  # of the slices so far, in seconds

    def __call__(self) -> bool:
        now = self._clock()
        if self._asked_at is not None:
            self.longest = max(self.longest or 0.0, now - self._asked_at)
        is_over = now + max(self._expected, self.longest or 0.0) >= self._ends_at
        self._asked_at = None if is_over else now
        return is_over

    def leaves(self, seconds: float) -> bool:
        """Whether what takes so long, begun now, ends in time."""
        return self._clock() + seconds < self._ends_at
