"""How a run goes, for whoever watches: a screen on a terminal, plain lines elsewhere.

::

    shown = [Group({"score": "score"}, has_curves=True), Group({"plan_ms": "ms a plan"}, "speed")]
    with Progress("cartpole_swingup", steps=100_000, minutes=None, groups=shown) as progress:
        progress.update({"env_steps": 4000, "score": 31.5})
        progress.event("checkpoint at 4000")
        progress.done("score 801")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from worldmodel.progress.curve import Curve, sparkline
from worldmodel.progress.lines import Lines
from worldmodel.progress.screen import Screen
from worldmodel.progress.state import Group, State, say_duration

__all__ = ["Curve", "Group", "Progress", "sparkline"]


class Progress:
    """The screen, or the lines.

    ``steps``, ``minutes``: where the run will end, if it is known. ``groups``: the numbers to show.
    ``screen``: a rich console in the place of standard output; ``clock``: seconds.
    """

    def __init__(
        self,
        title: str,
        steps: int | None,
        minutes: float | None,
        groups: Sequence[Group] = (),
        *,
        screen: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # rich is for people at a terminal; a robot that only plans does without it
        from rich.console import Console

        console = screen or Console()
        self._state = State(title, steps, minutes, groups, clock)
        # rich believes FORCE_COLOR, which is set in places that only keep a file
        is_live = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
        self._shown = Screen(self._state, console) if is_live else Lines(self._state, console.file)

    def __enter__(self) -> Progress:
        self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.stop()

    def update(self, row: Mapping[str, Any]) -> None:
        """The latest numbers; those that are not in ``row`` stay."""
        self._state.update(row)
        self._shown.refresh()

    def event(self, text: str) -> None:
        """Write a line that stays."""
        self._shown.write(f"{say_duration(self._state.elapsed)}  {text}")

    def done(self, text: str = "done") -> None:
        self._shown.stop()
        self._shown.write(f"{say_duration(self._state.elapsed)}  {text}")
