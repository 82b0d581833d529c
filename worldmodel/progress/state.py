"""What a run has reported so far: its latest numbers, their curves, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worldmodel.progress.curve import Curve


@dataclass(frozen=True)
class Group:
    """Numbers that are shown together, under the words that a person reads."""

    words: Mapping[str, str]  # name in a row -> word; a name that ends with / is a prefix
    title: str = ""  # none: the numbers that matter most, each in a line of its own
    has_curves: bool = False

    def readings(self, latest: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Name and word of each number that is known."""
        found = []
        for name, word in self.words.items():
            if name.endswith("/"):
                found += [(n, n.removeprefix(name)) for n in latest if n.startswith(name)]
            elif name in latest:
                found.append((name, word))
        return found


class State:
    """Three names of a row are known here, because they say where the run is::

    env_steps             simulator steps so far
    wall_clock_s          seconds of training so far, earlier sittings included
    checkpoint_env_steps  steps when the last checkpoint was written
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
        self.latest: dict[str, Any] = {}
        self.curves: dict[str, Curve] = {}
        self._steps = steps
        self._minutes = minutes
        self._began = clock()  # moved back by what earlier sittings took
        self._first: tuple[float, float] | None = None  # clock and env_steps of the first update
        self._saved_at = -math.inf  # clock, of the last checkpoint

    def update(self, row: Mapping[str, Any]) -> None:
        """The latest numbers; those that are not in ``row`` stay."""
        for group in self.groups:
            for name, _ in group.readings(row) if group.has_curves else ():
                self.curves.setdefault(name, Curve()).add(row[name])
        if "wall_clock_s" in row:
            self._began = self.clock() - row["wall_clock_s"]
        if "checkpoint_env_steps" in row:
            self._saved_at = self.clock()
        self.latest = {**self.latest, **row}  # anew: the screen's thread may be reading it
        if self._first is None and "env_steps" in row:
            self._first = self.clock(), row["env_steps"]

    @property
    def elapsed(self) -> float:
        return self.clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until the first of the two ends; None while nobody can tell."""
        ends = []
        if self._minutes is not None:
            ends.append(60 * self._minutes - self.elapsed)
        if self._steps is not None and self._first is not None:
            seconds = self.clock() - self._first[0]
            steps = self.latest["env_steps"] - self._first[1]
            if steps > 0 and seconds > 0:
                ends.append((self._steps - self.latest["env_steps"]) * seconds / steps)
        return max(0.0, min(ends)) if ends else None

    @property
    def share(self) -> float | None:
        """Of the way to the first of the two ends; None without an end."""
        shares = []
        if self._minutes:
            shares.append(self.elapsed / (60 * self._minutes))
        if self._steps:
            shares.append(self.latest.get("env_steps", 0) / self._steps)
        return min(1.0, max(shares)) if shares else None

    def say_steps(self) -> str:
        """Empty before the first step is known."""
        if "env_steps" not in self.latest:
            return ""
        target = f" / {self._steps:,}" if self._steps is not None else ""
        return f"{self.latest['env_steps']:,}{target}"

    def say_time(self) -> str:
        left = f", {say_duration(self.left)} left" if self.left is not None else ""
        return f"{say_duration(self.elapsed)}{left}"

    def say_checkpoint(self) -> str:
        """Empty before the first checkpoint."""
        if "checkpoint_env_steps" not in self.latest:
            return ""
        ago = say_duration(self.clock() - self._saved_at)
        return f"{ago} ago, {self.latest['checkpoint_env_steps']:,} env steps"

    def say(self, group: Group) -> str:
        """Its numbers in one line: with curves they are losses, without they have units."""
        known = [
            (word, say_number(self.latest[name])) for name, word in group.readings(self.latest)
        ]
        if group.has_curves:
            return "  ".join(f"{word} {number}" for word, number in known)
        return ", ".join(f"{number} {word}" for word, number in known)


def say_number(value: float) -> str:
    """Three to four digits that say something."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def say_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
