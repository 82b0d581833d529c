"""The deadline of a search: whether there is time for another slice of candidates."""

from __future__ import annotations

import math
from collections.abc import Callable


class Deadline:
    """Time is up if another slice, as long as the longest so far, would end too late.

    ``slice_s`` is the expected time of one slice; 0 if it was never measured, and then the first
    slice is scored if there is any time at all. A search ends before its deadline, unless one slice
    takes longer than ``slice_s`` and than all slices before it.
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

    def allows(self, seconds: float) -> bool:
        """Whether work that takes ``seconds``, if it begins now, ends in time."""
        return self._clock() + seconds < self._ends_at
