"""How fast a plan's parts are on this machine: asked of it, not assumed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

# A slice of so many candidates is doubled while it costs at most so many times as much.
SMALL_SLICE, DEAR = 16, 1.5
# Of twenty calls, as slow as the slowest but one: what a deadline should expect.
CALLS, SLOW = 20, 18


@dataclass(frozen=True)
class Pace:
    """What an agent knows before it begins a plan that must end in time.

    Zeros, as long as nobody measured, let everything begin.
    """

    slice_size: int = 64  # candidates between two looks at the clock
    slice_s: float = 0.0  # that scoring a slice takes
    proposing_s: float = 0.0  # that all the policy's proposals take
    following_s: float = 0.0  # that the policy's own actions take


def measure(
    score: Callable[[int], object],
    propose: Callable[[int], object],
    *,
    candidates: int,
    proposals: int,
    clock: Callable[[], float],
) -> Pace:
    """``score`` and ``propose`` so many candidates, again and again.

    A slice is as large as costs little more than a few candidates do: the model's calls, not its
    arithmetic, take the time.
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
    return Pace(
        size,
        slice_s=seconds(score, size)[SLOW],
        proposing_s=seconds(propose, proposals)[SLOW],
        following_s=seconds(propose, 1)[SLOW],
    )
