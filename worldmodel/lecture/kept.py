"""The kept figures of all rows: one CSV file, and the tables that pages show of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from worldmodel.files import read_rows, write_rows
from worldmodel.lecture.row import Row

FILE = Path("assets/lecture.csv")
COLUMNS = (
    *("row", "seed", "part", "figure", "value", "bound"),
    *("keeps", "settings", "cpu_minutes"),
)
WHOLE, BROKEN = "whole", "broken"
COMMENTS = (
    "Figures of the lecture's rows: python -m worldmodel.lecture; docs/lecture.md explains them.",
    "part: broken is the twin, without the part that the row is about. settings: their hash.",
)
DIGITS = 4


class Attempt(NamedTuple):
    """One run of a row, or of its twin."""

    row: str
    seed: int
    is_broken: bool
    figures: Mapping[str, float]


def keep(row: Row, seed: int, broken: bool, figures: Mapping[str, float], minutes: float) -> None:
    """Put the figures of an attempt in the place of those that the file has of it."""
    part = BROKEN if broken else WHOLE
    others = [
        line
        for line in read_rows(FILE)
        if (line["row"], line["seed"], line["part"]) != (row.name, str(seed), part)
    ]
    lines = [
        {
            "row": row.name,
            "seed": str(seed),
            "part": part,
            "figure": name,
            "value": f"{value:.{DIGITS}g}",
            "bound": str(row.passes.get(name, "")),
            "keeps": _yes_or_no(row, name, float(f"{value:.{DIGITS}g}")),
            "settings": row.hash,
            "cpu_minutes": f"{minutes:.1f}",
        }
        for name, value in figures.items()
    ]
    # sorting is stable: figures stay in the order in which the row gives them
    ordered = sorted(
        [*others, *lines], key=lambda line: (line["row"], line["part"] != WHOLE, int(line["seed"]))
    )
    write_rows(FILE, COLUMNS, [[line[name] for name in COLUMNS] for line in ordered], COMMENTS)


def _yes_or_no(row: Row, name: str, value: float) -> str:
    bound = row.passes.get(name)
    return "" if bound is None else "yes" if bound.holds(value) else "no"


def attempts(name: str, file: Path = FILE) -> list[Attempt]:
    """The kept attempts of a row, the whole ones first."""
    found: dict[tuple[int, bool], dict[str, float]] = {}
    for line in read_rows(file):
        if line["row"] == name:
            key = int(line["seed"]), line["part"] == BROKEN
            found.setdefault(key, {})[line["figure"]] = float(line["value"])
    return [Attempt(name, seed, broken, figures) for (seed, broken), figures in found.items()]


def table(row: Row, kept: list[Attempt]) -> str:
    """Markdown: a line for each figure, a column for each seed and for the twin."""
    if not kept:
        return "Not measured yet."
    heads = [_head(attempt) for attempt in kept]
    figures = list(dict.fromkeys(name for attempt in kept for name in attempt.figures))
    lines = [
        ["figure", "asked", *heads],
        ["---"] * 2 + ["---:"] * len(heads),
        *(
            [_words(name), str(row.passes.get(name, "")), *_cells(row, name, kept)]
            for name in figures
        ),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(attempt: Attempt) -> str:
    return f"twin, seed {attempt.seed}" if attempt.is_broken else f"seed {attempt.seed}"


def _cells(row: Row, name: str, kept: list[Attempt]) -> list[str]:
    """The values of a figure; **bold** where one breaks its bound."""
    cells = []
    for attempt in kept:
        value = attempt.figures.get(name, math.nan)
        bound = row.passes.get(name)
        text = "" if math.isnan(value) and name not in attempt.figures else f"{value:.3g}"
        cells.append(f"**{text}**" if bound and text and not bound.holds(value) else text)
    return cells


def _words(name: str) -> str:
    return name.replace("_", " ").replace(" r2", " R²")


def summary(rows: list[Row]) -> str:
    """Markdown: a line for each row, with the seeds that kept all bounds, and the failed twins."""
    lines = [["row", "claim", "seeds that show it", "twins that fail"], ["---"] * 4]
    for row in rows:
        kept = attempts(row.name)
        link = f"[{row.name}](../worldmodel/lecture/rows/{row.name}.py)"
        lines.append([link, row.idea, *(_share(row, kept, broken) for broken in (False, True))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _share(row: Row, kept: list[Attempt], broken: bool) -> str:
    of_this = [attempt for attempt in kept if attempt.is_broken == broken]
    as_claimed = sum(row.is_as_claimed(attempt.figures, broken) for attempt in of_this)
    return f"{as_claimed} of {len(of_this)}" if of_this else "not measured"
