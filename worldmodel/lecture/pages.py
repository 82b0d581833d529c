"""The tables of the guide, which are written from the kept figures."""

from __future__ import annotations

import re
from pathlib import Path

from worldmodel.files import write
from worldmodel.lecture.kept import attempts, summary, table
from worldmodel.lecture.row import names, row_of

GUIDE = Path("docs/lecture.md")
ALL = "rows"
_MARKS = re.compile(
    r"<!-- (?P<what>rows|row: (?P<name>\w+)) -->\n(?P<table>.*?)<!-- end -->", re.DOTALL
)


def written(page: str) -> str:
    """The page with the present table between each pair of marks."""
    return _MARKS.sub(_table, page)


def write_tables() -> None:
    """Write the present tables into the guide."""
    write(GUIDE, written(GUIDE.read_text()).encode())


def shown(page: str) -> list[str]:
    """The names of the rows whose tables a page shows."""
    return [found["name"] for found in _MARKS.finditer(page) if found["name"]]


def _table(found: re.Match[str]) -> str:
    name = found["name"]
    rows = [row_of(each) for each in names()]
    text = table(row_of(name), attempts(name)) if name else summary(rows)
    return f"<!-- {found['what']} -->\n{text}\n<!-- end -->"
