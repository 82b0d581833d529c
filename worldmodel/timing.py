"""Timing of plans: deadlines, and how long each part of a plan takes here, as measured."""

from __future__ import annotations

import dataclasses
import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

# A slice of candidates is doubled as long as it takes at most 1.5 times as long as a small one.
SMALL_SLICE, MOST_TIME = 16, 1.5
# A deadline expects the second slowest of twenty calls.
CALLS, SLOW = 20, 18
# A cost that is forecast from is the median of so many calls at least.
FEW_CALLS = 3
# After a part was faster than expected, the expectation falls by this share of the difference.
EASE = 0.1
# After so many plans in a row without time even for the policy, the user is warned once.
PATIENCE = 5

logger = logging.getLogger("worldmodel")


def require_deadline(deadline_ms: float | None) -> None:
    """Raise unless a deadline is None, or a finite number above 0."""
    if deadline_ms is None or (math.isfinite(deadline_ms) and deadline_ms > 0):
        return
    raise ValueError(
        f"deadline_ms: expected a finite number above 0, or None for no deadline, got {deadline_ms}"
    )


def warm_seconds(
    work: Callable[[], object],
    most: int = FEW_CALLS,
    limit_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median seconds of a call; the first one, which is slower, does not count.

    It calls FEW_CALLS times, and then on until ``limit_s`` has passed or ``most`` calls were made.
    """
    work()
    begun, taken = clock(), list[float]()
    while len(taken) < FEW_CALLS or (len(taken) < most and clock() - begun < limit_s):
        before = clock()
        work()
        taken.append(clock() - before)
    return statistics.median(taken)


class Lateness:
    """Counts plans in a row that had no time even for the policy, and warns once."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.has_warned = False

    def note(self, origin: str, deadline_ms: float | None) -> None:
        """Count one plan by its ``origin``."""
        self.in_a_row = self.in_a_row + 1 if origin == "previous" else 0
        if self.in_a_row < PATIENCE or self.has_warned:
            return
        self.has_warned = True
        logger.warning(
            "deadline_ms: %d plans in a row had no time for a search, nor for the policy, within"
            " %.3g ms, so each is only the plan before, shifted by one row; give more time, call"
            " agent.warm_up() before the first plan, or load an agent with a smaller planner",
            self.in_a_row,
            deadline_ms,
        )


@dataclass(frozen=True)
class PlanTiming:
    """The expected times of the parts of a plan, for plans with a deadline.

    Before anything was measured they are 0, so that every part begins. The times of a slice and of
    proposals are those of slow calls, because a search may be left out. The time of the policy's
    own actions is the median, because without them the plan is an old one.
    """

    slice_size: int = 64  # candidates that are scored before the clock is asked again
    slice_s: float = 0.0  # seconds to score a slice
    proposing_s: float = 0.0  # seconds for all proposals of the policy
    following_s: float = 0.0  # seconds for the policy's own actions

    def after(self, **measured: float | None) -> PlanTiming:
        """The expectation after parts took so many seconds; None: the part was left out.

        After a slow search the next one is expected to be as slow; after fast ones the expectation
        falls slowly. The expectation of a part that was left out falls a little each time, until
        the part is tried again. So a machine that was busy during the measurement, and no longer
        is, is used fully again.
        """
        if self == PlanTiming(self.slice_size):
            return self  # nothing was measured, and first calls are slow
        expected = {}
        for name, seconds in measured.items():
            before, now = getattr(self, name), seconds or 0.0
            expected[name] = before + EASE * (now - before)
            if name != "following_s":
                expected[name] = max(now, expected[name])
        return dataclasses.replace(self, **expected)


def measure(
    score: Callable[[int], object],
    propose: Callable[[int], object],
    *,
    candidates: int,
    proposals: int,
    clock: Callable[[], float],
) -> PlanTiming:
    """Measure repeatedly how long ``score`` and ``propose`` take for a number of candidates.

    The slice becomes the largest that takes little more time than a few candidates: for small
    slices the number of operator calls decides the time, not the arithmetic.
    """

    def seconds(work: Callable[[int], object], count: int) -> list[float]:
        elapsed = []
        for _ in range(CALLS):
            begun = clock()
            work(count)
            elapsed.append(clock() - begun)
        return sorted(elapsed)

    affordable = MOST_TIME * statistics.median(seconds(score, SMALL_SLICE))
    size = SMALL_SLICE
    while size < candidates:
        larger = min(2 * size, candidates)
        if statistics.median(seconds(score, larger)) > affordable:
            break
        size = larger
    return PlanTiming(
        size,
        slice_s=seconds(score, size)[SLOW],
        proposing_s=seconds(propose, proposals)[SLOW],
        following_s=statistics.median(seconds(propose, 1)),
    )


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


P = TypeVar("P")


class TimedPlan:
    """The time of one plan, from its beginning: its deadline, and what its parts take.

    ``timing``: what the parts are expected to take. ``deadline_ms`` None: there is time for all.
    """

    def __init__(
        self, clock: Callable[[], float], deadline_ms: float | None, timing: PlanTiming
    ) -> None:
        require_deadline(deadline_ms)
        self._clock, self._begun, self._timing = clock, clock(), timing
        self.deadline_ms = deadline_ms
        self.out_of_time = Deadline(clock, self._begun, deadline_ms, timing.slice_s)
        # candidates that are scored before the clock is asked again; None: all of them
        self.slice_size = None if deadline_ms is None else timing.slice_size
        self._seconds: dict[str, float | None] = {}  # measured, by the fields of PlanTiming

    def propose(self, propose: Callable[[int], P], count: int) -> tuple[P, bool]:
        """Let the policy propose as many candidates as there is time for: all, one, or none.

        Returns the proposals, and whether there is no time left for a search.
        """
        deadline, timing = self.out_of_time, self._timing
        in_haste = not deadline.allows(timing.proposing_s + timing.slice_s)
        if in_haste:
            count = min(1, count) if deadline.allows(timing.following_s) else 0
        begun = self._clock()
        proposals = propose(count)
        elapsed = self._clock() - begun
        self._seconds = {"proposing_s": elapsed}
        if in_haste:
            self._seconds = {"proposing_s": None, "following_s": elapsed if count else None}
        # Ask once more: proposing may have taken longer than expected.
        return proposals, in_haste or not deadline.allows(timing.slice_s)

    def end_search(self) -> PlanTiming:
        """The search has ended now: return what the parts of the next plan are expected to take."""
        if self.deadline_ms is None:
            return self._timing
        self.out_of_time()  # the last slice ends here
        return self._timing.after(slice_s=self.out_of_time.longest, **self._seconds)

    @property
    def milliseconds(self) -> float:
        """Since the plan began."""
        return (self._clock() - self._begun) * 1e3
