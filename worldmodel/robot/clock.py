"""The controller's time: goes on at every step, whatever the clock does."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable


class Clock:
    """Time that never goes back, from a clock that may (``time.time`` under NTP).

    Where the clock steps back, nobody knows how much time has passed: it counts as one period, and
    from there on time goes on with the clock. So what is held for a limited time ends, also where
    the clock jumped an hour ahead and came back, or runs backwards.
    """

    def __init__(self, seconds: Callable[[], float], period_s: float) -> None:
        self._seconds = seconds
        self._period_s = period_s
        self._last: float | None = None  # what the clock said at the last tick
        self._ahead_s = 0.0  # of our time before the clock's

    def tick(self) -> tuple[float, bool]:
        """The time of this step, and whether the clock stepped back since the last one."""
        said = float(self._seconds())
        if not math.isfinite(said):
            raise ValueError(f"clock: expected seconds, got {said}")
        stepped_back = self._last is not None and said < self._last
        if self._last is not None and stepped_back:
            self._ahead_s += self._last - said + self._period_s
        self._last = said
        return said + self._ahead_s, stepped_back

    def since_tick(self) -> float:
        """Seconds; not a number that can be used where the clock has none."""
        return math.inf if self._last is None else float(self._seconds()) - self._last

    def time_of(self, taken_at: object) -> float | None:
        """In our time, what somebody read from the clock; NaN for what is no time."""
        try:
            if taken_at is None:
                return None
            is_number = isinstance(taken_at, numbers.Real) and not isinstance(taken_at, bool)
            return float(taken_at) + self._ahead_s if is_number else math.nan  # type: ignore[arg-type]
        except Exception:  # whatever a stranger's object does when it is looked at
            return math.nan
