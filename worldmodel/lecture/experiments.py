"""Experiments: rows and their twins, each measured in a process of its own, on one core.

They are not in ``__main__``: a spawned process does not import that module of a package again.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from worldmodel.lecture import kept
from worldmodel.lecture.row import Row, row_of
from worldmodel.machine import use_threads
from worldmodel.progress import Progress

SEEDS = (0, 1, 2)  # of a short row; a long row has the first only, and so have twins


class Task(NamedTuple):
    """A row to measure, or its twin."""

    row: str
    seed: int
    broken: bool


class Measured(NamedTuple):
    figures: Mapping[str, float]
    minutes: float  # of processor time


def tasks(rows: Sequence[Row], seeds: Sequence[int], broken: bool) -> list[Task]:
    """The rows and their twins, or with ``broken`` the twins only; ``seeds`` or their own."""
    whole = [
        Task(row.name, seed, False)
        for row in rows
        for seed in seeds or (SEEDS if row.short else SEEDS[:1])
    ]
    twins = [Task(row.name, seed, True) for row in rows for seed in seeds or SEEDS[:1]]
    return twins if broken else [*whole, *twins]


def measure(task: Task) -> Measured:
    """Run a row, or its twin, on one core. What its runs say is not shown."""
    use_threads(1)
    begun = _processor_s()
    with contextlib.redirect_stdout(io.StringIO()):
        figures = row_of(task.row).measure(task.seed, task.broken)
    return Measured(figures, (_processor_s() - begun) / 60)


def _processor_s() -> float:
    """Processor time of this process, and of its children that ended."""
    return sum(os.times()[:4])


def sentence(task: Task, measured: Measured) -> str:
    figures, row = measured.figures, row_of(task.row)
    said = ", ".join(f"{figure} {value:.3g}" for figure, value in figures.items())
    part = "twin, " if task.broken else ""
    verdict = "as claimed" if row.is_as_claimed(figures, task.broken) else "NOT AS CLAIMED"
    return f"{task.row}, {part}seed {task.seed}: {verdict}: {said} ({measured.minutes:.1f} min)"


def processes(jobs: int) -> ProcessPoolExecutor:
    """A new process for each experiment, ``jobs`` at once."""
    spawning = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=spawning, max_tasks_per_child=1)


def run(todo: Sequence[Task], jobs: int, keep: bool) -> bool:
    """Measure all tasks, say and keep each as it ends; True if all rows are as claimed."""
    all_as_claimed = True
    with (
        Progress(f"{len(todo)} experiments, {jobs} at once", None, None) as progress,
        processes(jobs) as pool,
    ):
        running = {pool.submit(measure, task): task for task in todo}
        for done in as_completed(running):
            task = running[done]
            if error := done.exception():
                progress.event(f"{task.row}, seed {task.seed}: failed: {error}")
                all_as_claimed = False
                continue
            measured, row = done.result(), row_of(task.row)
            progress.event(sentence(task, measured))
            all_as_claimed &= row.is_as_claimed(measured.figures, task.broken)
            if keep:
                kept.keep(row, task.seed, task.broken, measured.figures, measured.minutes)
    return all_as_claimed
