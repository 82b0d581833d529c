"""A learning curve in bounded memory, and its drawing in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
POINTS = 120  # of a curve, at most; the widest screen draws fewer


class Curve:
    """Means of equally many values each. When there are too many, pairs of them are merged."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._values_per_mean = 1
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        self._waiting.append(float(value))
        if len(self._waiting) < self._values_per_mean:
            return
        means = [*self._means, _mean(self._waiting)]
        self._waiting = []
        if len(means) == 2 * POINTS:
            means = [_mean(means[at : at + 2]) for at in range(0, len(means), 2)]
            self._values_per_mean *= 2
        self._means = means  # in one assignment, because the screen's thread may be reading it

    def points(self, most: int) -> list[float]:
        """The curve from first to last, in at most ``most`` points."""
        means = self._means
        count = min(most, len(means))
        edges = [round(part * len(means) / count) for part in range(count + 1)] if count else [0]
        return [_mean(means[begin:end]) for begin, end in pairwise(edges)]


def sparkline(values: Sequence[float]) -> str:
    """Draw numbers as characters: the lowest is ▁, the highest █."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
