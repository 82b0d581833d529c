"""How long the parts of a plan take on this machine: measured, not assumed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass

# A slice of candidates is doubled while it costs at most so many times as much as a small one.
SMALL_SLICE, DEAR = 16, 1.5
# Of twenty calls, as slow as the slowest but one: what a deadline should expect.
CALLS, SLOW = 20, 18
# The share of a difference by which the next plan expects less, once a part was quicker.
EASE = 0.1


@dataclass(frozen=True)
class PlanTiming:
    """The times that a plan with a deadline expects of its parts.

    Zeros, as long as nobody measured, let everything begin. For a search it is the time of slow
    calls, since it may be left out; for the policy's own actions the median, since without them the
    plan is an old one.
    """

    slice_size: int = 64  # candidates between two looks at the clock
    slice_s: float = 0.0  # that scoring a slice takes
    proposing_s: float = 0.0  # that all the policy's proposals take
    following_s: float = 0.0  # that the policy's own actions take

    def after(self, **took: float | None) -> PlanTiming:
        """The expectation once parts took so long; None: there seemed to be no time for it.

        A search that was slow is expected to be slow again, until others have been quick by and by.
        A part that was left out is expected to take a little less each time, until it is tried: so
        a machine that was busy when it was measured, and is no more, is used fully again.
        """
        if self == PlanTiming(self.slice_size):
            return self  # nobody measured, and first calls are slow
        expected = {}
        for name, seconds in took.items():
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
    """Time ``score`` and ``propose`` for so many candidates, again and again.

    A slice is as large as costs little more than a few candidates do: the number of operator calls
    takes the time, not the arithmetic.
    """

    def seconds(work: Callable[[int], object], count: int) -> list[float]:
        took = []
        for _ in range(CALLS):
            begun = clock()
            work(count)
            took.append(clock() - begun)
        return sorted(took)

    affordable = DEAR * statistics.median(seconds(score, SMALL_SLICE))
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
