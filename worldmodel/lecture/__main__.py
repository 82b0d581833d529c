"""Measure rows of the lecture, keep their figures, and write the guide's tables.

python -m worldmodel.lecture [ROW ...] [--seeds 0 1 2] [--broken] [--short] [--jobs 2]
python -m worldmodel.lecture --tables
"""

from __future__ import annotations

import sys
from typing import Annotated

from worldmodel.checks import ConfigError
from worldmodel.lecture import pages
from worldmodel.lecture.experiments import run, tasks
from worldmodel.lecture.row import names, row_of
from worldmodel.machine import cores

if __name__ == "__main__":
    import tyro

    def command(
        rows: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
        *,
        seeds: tuple[int, ...] = (),
        broken: bool = False,
        short: bool = False,
        tables: bool = False,
        jobs: int = cores(),
        keep: bool = True,
    ) -> int:
        """Measure rows of the lecture and keep their figures in assets/lecture.csv.

        Args:
            rows: their names, as the files in worldmodel/lecture/rows; all by default.
            seeds: by default 0 1 2 for a short row, and 0 for a long one and for twins.
            broken: only the twins, in which the part does not work that the row is about.
            short: only rows that take a few minutes.
            tables: measure nothing, only write the tables of docs/lecture.md.
            jobs: rows that are measured at once, each on one core.
            keep: write the figures and the tables.
        """
        chosen = [row_of(name) for name in rows or names()]
        if short:
            chosen = [row for row in chosen if row.short]
        as_claimed = tables or run(tasks(chosen, seeds, broken), jobs, keep)
        if keep:
            pages.write_tables()
        return 0 if as_claimed else 1

    try:
        sys.exit(tyro.cli(command, prog="python -m worldmodel.lecture"))
    except ConfigError as error:
        sys.exit(f"lecture: {error}")
