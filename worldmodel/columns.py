"""Align text in columns, for a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest


def aligned(rows: Sequence[Sequence[str]], indent: str = "", align: str = "<") -> str:
    """Align columns to their widest cells, two spaces apart; a cell may have several lines.

    ``align`` has a sign for each column, ``<`` left or ``>`` right; its last one repeats.
    """
    cells = [line for row in rows for line in _lines(row)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    signs = align.ljust(len(widths), align[-1])
    columns = list(zip(signs, widths, strict=False))
    return "\n".join(
        indent
        + "  ".join(
            f"{cell:{sign}{width}}" for cell, (sign, width) in zip(line, columns, strict=True)
        ).rstrip()
        for line in cells
    )


def _lines(row: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip_longest(*(cell.split("\n") for cell in row), fillvalue=""))
