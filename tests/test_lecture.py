"""The lecture's rows: their bounds, their kept figures, and the guide's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from worldmodel.checks import ConfigError
from worldmodel.files import read_rows
from worldmodel.lecture import experiments, kept, pages
from worldmodel.lecture.row import Bound, Row, at_least, at_most, names, row_of


def claim(**changes: Any) -> Row:
    parts: dict[str, Any] = {
        "name": "sums",
        "idea": "two and two are four",
        "broken": "one of them is missing",
        "passes": {"sum": at_least(4), "error": at_most(0.5)},
        "reds": ("sum",),
        "short": True,
        "settings": {"numbers": 2},
        "measure": lambda seed, broken: {"sum": 2.0 if broken else 4.0, "error": 0.25},
    }
    return Row(**{**parts, **changes})


def test_a_bound_holds_on_its_side_and_never_for_nan() -> None:
    assert at_least(1).holds(1)
    assert not at_least(1).holds(0.99)
    assert at_most(1).holds(1)
    assert not at_most(1).holds(1.01)
    assert not at_least(-math.inf).holds(math.nan)
    assert not at_most(math.inf).holds(math.nan)
    assert str(at_most(0.1)) == "<= 0.1"


def test_a_row_keeps_all_bounds_and_its_twin_breaks_one_that_it_names() -> None:
    row = claim()
    good, other, bad = {"sum": 4, "error": 0}, {"sum": 4, "error": 1}, {"sum": 2, "error": 0}
    assert row.is_as_claimed(good, broken=False)
    assert not row.is_as_claimed(other, broken=False)
    assert not row.is_as_claimed(good, broken=True)
    assert not row.is_as_claimed(other, broken=True)  # a failure that the twin does not name
    assert row.is_as_claimed(bad, broken=True)


@pytest.mark.parametrize("reds", [(), ("product",)])
def test_a_twin_that_nothing_would_notice_is_refused(reds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="sums: reds"):
        claim(reds=reds)


def test_the_hash_is_of_the_settings() -> None:
    assert claim().hash == claim(idea="anything").hash
    assert claim().hash != claim(settings={"numbers": 3}).hash


def test_figures_are_kept_in_place_of_their_own_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FILE", tmp_path / "lecture.csv")
    row, other = claim(), claim(name="products")
    for each, seed, broken, figures in [
        (row, 1, False, {"sum": 4.0, "error": 0.75, "random": -1.0}),
        (other, 0, False, {"sum": 5.0, "error": 0.0}),
        (row, 0, True, {"sum": 2.0, "error": 0.25}),
        (row, 0, False, {"sum": 3.0, "error": 0.5}),
        (row, 0, False, {"sum": 4.0, "error": 0.5, "random": -2.0}),  # again
    ]:
        kept.keep(each, seed, broken, figures, 1.0)
    lines = read_rows(kept.FILE)
    assert [line["row"] for line in lines] == ["products"] * 2 + ["sums"] * 8
    assert {line["settings"] for line in lines} == {row.hash}
    assert [line["keeps"] for line in lines if line["figure"] == "error"] == [
        *("yes", "yes", "no", "yes")
    ]
    assert kept.table(row, kept.attempts("sums", kept.FILE)).splitlines() == [
        "| figure | asked | seed 0 | seed 1 | twin, seed 0 |",
        "| --- | --- | ---: | ---: | ---: |",
        "| sum | >= 4 | 4 | 4 | **2** |",
        "| error | <= 0.5 | 0.5 | **0.75** | 0.25 |",
        "| random |  | -2 | -1 |  |",
    ]


def test_unless_told_otherwise_short_rows_have_three_seeds_and_twins_one() -> None:
    short, long = claim(), claim(name="long", short=False)
    assert experiments.tasks([short, long], (), broken=False) == [
        *(("sums", 0, False), ("sums", 1, False), ("sums", 2, False), ("long", 0, False)),
        *(("sums", 0, True), ("long", 0, True)),
    ]
    assert experiments.tasks([short], (7,), broken=True) == [("sums", 7, True)]


def test_an_unknown_row_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no row nonsense"):
        row_of("nonsense")


@pytest.mark.parametrize("name", names())
def test_a_row_says_what_it_claims(name: str) -> None:
    row = row_of(name)
    assert row.idea
    assert row.broken
    assert all(isinstance(bound, Bound) for bound in row.passes.values())
    assert len(row.hash) == 12


def test_kept_figures_are_judged_by_the_present_bounds() -> None:
    for line in read_rows(kept.FILE):
        bound = row_of(line["row"]).passes.get(line["figure"])
        assert line["bound"] == str(bound or ""), line
        if bound is not None:
            assert line["keeps"] == ("yes" if bound.holds(float(line["value"])) else "no"), line


def test_the_guide_shows_every_row_and_the_kept_figures() -> None:
    page = pages.GUIDE.read_text()
    assert sorted(pages.shown(page)) == names()
    assert pages.written(page) == page


def test_an_experiment_runs_in_a_process_of_its_own() -> None:
    task = experiments.Task("no_such_row", 0, broken=False)
    with experiments.processes(1) as pool, pytest.raises(ConfigError, match="no row no_such_row"):
        pool.submit(experiments.measure, task).result()


@pytest.mark.learning
@pytest.mark.parametrize("broken", [False, True], ids=["whole", "twin"])
@pytest.mark.parametrize("name", [name for name in names() if row_of(name).short])
def test_a_short_row_is_as_claimed(
    name: str, broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    task = experiments.Task(name, 0, broken)
    measured = experiments.measure(task)
    with capsys.disabled():
        print(f"\n{experiments.sentence(task, measured)}")
    figures: Mapping[str, float] = measured.figures
    row = row_of(name)
    assert row.is_as_claimed(figures, broken), row.fails(figures)
