"""Published scores of agents that learn from images, by task and number of simulator steps."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

SHOWN = ("planet", "dreamerv3", "drqv2", "tdmpc2")  # in all pictures and tables, with the best
BY_EYE = "~"  # the last letter of a method's name if its scores were read off a figure by eye

Scores = dict[str, float]
"""Method -> mean return."""


def published(task: str) -> dict[int, Scores]:
    """Simulator steps -> scores, by rising steps; empty for a task without published scores."""
    return _read().get(task, {})


def best(scores: Scores) -> str:
    """The method with the highest score; scores that were read off a figure do not count."""
    return max((name for name in scores if not name.endswith(BY_EYE)), key=lambda n: scores[n])


def shown(scores: Scores) -> Scores:
    """The scores to show: the known ones of ``SHOWN``, and the best."""
    return {n: scores[n] for n in dict.fromkeys([*SHOWN, best(scores)]) if n in scores}


def source() -> Path:
    """The file with all published scores and their sources."""
    inside = Path(__file__).parent / "assets"  # an installed package
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "assets"
    return folder / "published_pixel_scores.csv"


@cache
def _read() -> dict[str, dict[int, Scores]]:
    lines = [line for line in source().read_text().splitlines() if not line.startswith("#")]
    scores_of: dict[str, dict[int, Scores]] = {}
    for row in csv.DictReader(lines):
        task, steps = row.pop("task"), int(row.pop("env_steps"))
        scores_of.setdefault(task, {})[steps] = {n: float(v) for n, v in row.items() if v}
    return {task: dict(sorted(scores.items())) for task, scores in scores_of.items()}
