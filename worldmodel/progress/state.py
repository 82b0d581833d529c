"""The reported state of a run: its phase, its latest numbers, their curves, and its times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from worldmodel.progress.curve import Curve

Direction = Literal["lower is better", "should grow", "no direction"]


@dataclass(frozen=True)
class Group:
    """Numbers that are shown together, with plain words for each."""

    words: Mapping[str, str]  # name of a number -> words; a name that ends with / is a prefix
    title: str = ""
    has_curves: bool = False
    direction: Direction = "no direction"  # of all, apart from those in ``directions``
    directions: Mapping[str, Direction] = field(default_factory=dict)

    def readings(self, latest: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Name and words of each number in ``latest``; those of a prefix have no words."""
        found = []
        for name, words in self.words.items():
            if name.endswith("/"):
                found += [(n, "") for n in latest if n.startswith(name)]
            elif name in latest:
                found.append((name, words))
        return found

    def direction_of(self, name: str) -> Direction:
        return self.directions.get(name, self.direction)


@dataclass(frozen=True)
class Phase:
    """What the run does now: ``what`` changes seldom, ``detail`` counts."""

    what: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.detail}".strip()


class State:
    """The phase of a run, its latest numbers, their curves, and its times.

    Some names of numbers have a meaning here::

    env_steps                      simulator steps so far
    wall_clock_s                   seconds of training so far, all calls on this run included
    score, score_std               of the last evaluation
    score_episodes, score_env_steps
    train_return                   of the last training episode
    checkpoint_env_steps           steps and seconds of training at the last checkpoint
    checkpoint_wall_clock_s
    """

    def __init__(
        self,
        title: str,
        steps: int | None,
        minutes: float | None,
        groups: Sequence[Group],
        clock: Callable[[], float],
    ) -> None:
        self.title = title
        self.groups = groups
        self.clock = clock
        self.phase = Phase()
        self.latest: dict[str, Any] = {}
        self.curves: dict[str, Curve] = {}
        self._steps = steps
        self._has_end = steps is not None or minutes is not None
        self._began = clock()  # moved back by the time of earlier calls
        self._end: float | None = None  # clock, as expected; None while it is unknown

    def update(self, numbers: Mapping[str, Any]) -> None:
        """Take the latest numbers; those that are not in ``numbers`` stay."""
        for name in ("score", "train_return"):
            if name in numbers:
                self.curves.setdefault(name, Curve()).add(numbers[name])
        for group in self.groups:
            for name, _ in self.readings(group, numbers) if group.has_curves else ():
                self.curves.setdefault(name, Curve()).add(numbers[name])
        # a new dict, because the screen's thread may be reading the old one
        self.latest = {**self.latest, **numbers}
        if "wall_clock_s" in numbers:
            self._began = self.clock() - numbers["wall_clock_s"]

    def expect(self, left_s: float | None) -> None:
        """Take the seconds that are left; None if they are not known."""
        self._end = None if left_s is None else self.clock() + left_s

    def readings(self, group: Group, latest: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Name and words of the numbers of a group; a prefix leaves out those of other groups."""
        named = {name for other in self.groups if other is not group for name in other.words}
        return [(name, words) for name, words in group.readings(latest) if name not in named]

    @property
    def elapsed(self) -> float:
        return self.clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until the end; None while it is unknown. It counts down between two estimates."""
        return None if self._end is None else max(0.0, self._end - self.clock())

    @property
    def share(self) -> float | None:
        """The share of the time that is over; None while the rest is unknown."""
        left, elapsed = self.left, max(0.0, self.elapsed)
        if left is None or elapsed + left <= 0:
            return None
        return elapsed / (elapsed + left)

    def steps_text(self) -> str:
        """Empty before the first step is known."""
        if "env_steps" not in self.latest:
            return ""
        target = f" / {self._steps:,}" if self._steps is not None else ""
        return f"{self.latest['env_steps']:,}{target}"

    def time_text(self) -> str:
        if self.left is not None:
            left = f", about {duration_text(self.left)} left"
        else:
            left = ", estimating the time left" if self._has_end else ""
        return f"{duration_text(self.elapsed)}{left}"

    def score_text(self) -> str:
        """The last score with its spread; empty before the first evaluation."""
        if "score" not in self.latest:
            return ""
        spread = (
            f" ± {score_number(self.latest['score_std'])}" if "score_std" in self.latest else ""
        )
        return f"{score_number(self.latest['score'])}{spread}"

    def evaluation_text(self) -> str:
        """How the score was measured; empty before the first evaluation."""
        if "score_episodes" not in self.latest:
            return ""
        episodes, steps = self.latest["score_episodes"], self.latest["score_env_steps"]
        return f"{episodes} episodes at {steps:,} env steps"

    def checkpoint_text(self) -> str:
        """Empty before the first checkpoint."""
        if "checkpoint_env_steps" not in self.latest:
            return ""
        ago = duration_text(max(0.0, self.elapsed - self.latest["checkpoint_wall_clock_s"]))
        return f"at {self.latest['checkpoint_env_steps']:,} env steps, {ago} ago"

    def group_text(self, group: Group) -> str:
        """The numbers of a group in one line, each before its unit."""
        return ", ".join(
            f"{number_text(self.latest[name])} {words}"
            for name, words in self.readings(group, self.latest)
        )


def score_number(value: float) -> str:
    """A score as people compare it: with one decimal, small ones with two."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def number_text(value: float) -> str:
    """A number with three to four significant digits."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
