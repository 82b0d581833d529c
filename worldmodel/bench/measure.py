"""Time several functions in turn, within one run, so that a busy moment slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worldmodel.columns import aligned

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """One comparison: rows with the same columns, and notes that explain them."""

    title: str
    rows: list[dict[str, Cell]]
    notes: list[str] = field(default_factory=list)


LEAST = 3  # rounds, however long they take


@dataclass(frozen=True)
class Effort:
    """How much to measure: rounds of each comparison, fewer if these would take over ``seconds``.

    ``say`` is called with a line about each thing when it has run for the first time.
    """

    repetitions: int
    seconds: float = math.inf
    say: Callable[[str], None] = lambda text: None


def interleave(
    works: Mapping[str, Callable[[], object]], effort: Effort
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds [rounds] of each function, called in turn after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for name, work in works.items():
        ms = _milliseconds(work)
        effort.say(f"  {name}: {ms:,.3g} ms the first time")
    begun = time.perf_counter()
    for done in range(effort.repetitions):
        elapsed = time.perf_counter() - begun
        if done >= LEAST and elapsed * (done + 1) / done > effort.seconds:
            break
        if done == 1:
            rounds = min(effort.repetitions, max(LEAST, effort.seconds // elapsed))
            effort.say(f"  {rounds:.0f} rounds of these, about {elapsed * rounds:,.2g} s")
        for name, work in works.items():
            times[name].append(_milliseconds(work))
    return {name: np.array(each) for name, each in times.items()}


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def percentiles(milliseconds: NDArray[np.float64]) -> dict[str, Cell]:
    """Median, p99 and p99.9; these two are near the slowest below 100 and 1000 repetitions."""
    return {
        "ms": float(np.median(milliseconds)),
        "p99 ms": float(np.percentile(milliseconds, 99)),
        "p99.9 ms": float(np.percentile(milliseconds, 99.9)),
    }


def describe(table: Table) -> str:
    """A table as text for a screen: the title, then columns, then notes."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    cells = [columns, *([_text(row.get(name, "")) for name in columns] for row in table.rows)]
    notes = [f"  {note}" for note in table.notes]
    return "\n".join([table.title, aligned(cells, indent="  ", align="<>"), *notes])


def _text(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
