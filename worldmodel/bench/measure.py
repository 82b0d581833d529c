"""How things are compared: side by side in one run, so that a busy moment hits them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worldmodel.columns import aligned

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """One comparison: rows with the same columns, and what has to be known to read them."""

    title: str
    rows: list[dict[str, Cell]]
    notes: list[str] = field(default_factory=list)


def interleave(
    works: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, NDArray[np.float64]]:
    """[repetitions] milliseconds of each, in turn; a first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            if repetition:
                times[name].append((time.perf_counter() - begun) * 1e3)
    return {name: np.array(each) for name, each in times.items()}


def percentiles(milliseconds: NDArray[np.float64]) -> dict[str, Cell]:
    """p99 and p99.9 mean something from 100 and 1000 repetitions on; below, they are the worst."""
    return {
        "ms": float(np.median(milliseconds)),
        "p99 ms": float(np.percentile(milliseconds, 99)),
        "p99.9 ms": float(np.percentile(milliseconds, 99.9)),
    }


def describe(table: Table) -> str:
    """For a screen: the title, then columns, then notes."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    cells = [columns, *([_text(row.get(name, "")) for name in columns] for row in table.rows)]
    notes = [f"  {note}" for note in table.notes]
    return "\n".join([table.title, aligned(cells, indent="  ", align="<>"), *notes])


def _text(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
