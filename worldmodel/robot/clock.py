"""The controller's time: it never goes back, even if the clock does."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable


class Clock:
    """Time that never goes back, made from a clock that may (``time.time`` under NTP).

    When the clock steps back, the time that has passed is unknown: one period is assumed, and then
    time advances with the clock again. So an action that is held for a limited time ends, even if
    the clock jumps an hour ahead and comes back, or runs backwards.
    """

    def __init__(self, seconds: Callable[[], float], period_s: float) -> None:
        self._seconds = seconds
        self._period_s = period_s
        self._last: float | None = None  # reading of the clock at the last tick
        self._ahead_s = 0.0  # our time minus the clock's

    def tick(self) -> tuple[float, bool]:
        """The time of this step, and whether the clock stepped back since the last one."""
        reading = float(self._seconds())
        if not math.isfinite(reading):
            raise ValueError(f"clock: expected seconds, got {reading}")
        stepped_back = self._last is not None and reading < self._last
        if self._last is not None and stepped_back:
            self._ahead_s += self._last - reading + self._period_s
        self._last = reading
        return reading + self._ahead_s, stepped_back

    def since_tick(self) -> float:
        """Seconds since the last tick; infinity before the first."""
        return math.inf if self._last is None else float(self._seconds()) - self._last

    def time_of(self, taken_at: object) -> float | None:
        """Convert a reading of the clock to our time; NaN if it is not a number."""
        try:
            if taken_at is None:
                return None
            is_number = isinstance(taken_at, numbers.Real) and not isinstance(taken_at, bool)
            return float(taken_at) + self._ahead_s if is_number else math.nan  # type: ignore[arg-type]
        except Exception:  # an unknown object may raise anything
            return math.nan
