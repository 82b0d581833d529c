"""Columns for a screen are as wide as they must be."""

from __future__ import annotations

from worldmodel.columns import aligned

ROWS = [["name", "n"], ["a", "10"], ["long name", "2"]]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned(ROWS).split("\n") == ["name       n", "a          10", "long name  2"]


def test_a_sign_aligns_its_column_and_the_last_sign_all_that_follow() -> None:
    rows = [["a", "b", "c"], ["1", "22", "333"]]
    assert aligned(rows, align="<>") == "a   b    c\n1  22  333"


def test_a_cell_of_several_lines_keeps_its_column() -> None:
    text = aligned([["ok", "one\ntwo"], ["problem", "three"]], indent="  ")
    assert text.split("\n") == ["  ok       one", "           two", "  problem  three"]
