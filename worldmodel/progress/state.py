"""The reported state of a run: its latest numbers, their curves, and the remaining time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worldmodel.progress.curve import Curve


@dataclass(frozen=True)
class Group:
    """Numbers that are shown together, with a word for each."""

    words: Mapping[str, str]  # name of a number -> word; a name that ends with / is a prefix
    title: str = ""  # empty for the main numbers, which have a line each
    has_curves: bool = False

    def readings(self, latest: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Name and word of each number in ``latest``."""
        found = []
        for name, word in self.words.items():
            if name.endswith("/"):
                found += [(n, n.removeprefix(name)) for n in latest if n.startswith(name)]
            elif name in latest:
                found.append((name, word))
        return found


class State:
    """The latest numbers of a run, their curves, and its times.

    Three names of numbers have a meaning here::

    env_steps             simulator steps so far
    wall_clock_s          seconds of training so far, all calls on this run included
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
        self._began = clock()  # moved back by the time of earlier calls
        self._first: tuple[float, float] | None = None  # clock and env_steps of the first update
        self._saved_at = -math.inf  # clock, of the last checkpoint

    def update(self, numbers: Mapping[str, Any]) -> None:
        """Take the latest numbers; those that are not in ``numbers`` stay."""
        for group in self.groups:
            for name, _ in group.readings(numbers) if group.has_curves else ():
                self.curves.setdefault(name, Curve()).add(numbers[name])
        if "wall_clock_s" in numbers:
            self._began = self.clock() - numbers["wall_clock_s"]
        if "checkpoint_env_steps" in numbers:
            self._saved_at = self.clock()
        # a new dict, because the screen's thread may be reading the old one
        self.latest = {**self.latest, **numbers}
        if self._first is None and "env_steps" in numbers:
            self._first = self.clock(), numbers["env_steps"]

    @property
    def elapsed(self) -> float:
        return self.clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until the first of the two limits; None while it is unknown."""
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
        """The share of the run that is done, by the nearer limit; None without a limit."""
        shares = []
        if self._minutes:
            shares.append(self.elapsed / (60 * self._minutes))
        if self._steps:
            shares.append(self.latest.get("env_steps", 0) / self._steps)
        return min(1.0, max(shares)) if shares else None

    def steps_text(self) -> str:
        """Empty before the first step is known."""
        if "env_steps" not in self.latest:
            return ""
        target = f" / {self._steps:,}" if self._steps is not None else ""
        return f"{self.latest['env_steps']:,}{target}"

    def time_text(self) -> str:
        left = f", {duration_text(self.left)} left" if self.left is not None else ""
        return f"{duration_text(self.elapsed)}{left}"

    def checkpoint_text(self) -> str:
        """Empty before the first checkpoint."""
        if "checkpoint_env_steps" not in self.latest:
            return ""
        ago = duration_text(self.clock() - self._saved_at)
        return f"{ago} ago, {self.latest['checkpoint_env_steps']:,} env steps"

    def group_text(self, group: Group) -> str:
        """The numbers of a group in one line: losses have names, others have units."""
        known = [
            (word, number_text(self.latest[name])) for name, word in group.readings(self.latest)
        ]
        if group.has_curves:
            return "  ".join(f"{word} {number}" for word, number in known)
        return ", ".join(f"{number} {word}" for word, number in known)


def number_text(value: float) -> str:
    """A number with three to four significant digits."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
