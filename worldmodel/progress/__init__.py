"""Progress of a run: a screen on a terminal, plain lines elsewhere.

::

    shown = [Group({"plan_ms": "ms a plan"}, "speed")]
    with Progress("cartpole_swingup", steps=100_000, minutes=None, groups=shown) as progress:
        progress.phase("training:", "update 3/75", left_s=1200.0)
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
from worldmodel.progress.state import Direction, Group, Phase, State, duration_text

__all__ = ["Curve", "Direction", "Group", "Progress", "sparkline"]


class Progress:
    """Shows numbers and events of a run, on a screen or as lines.

    ``steps``, ``minutes``: the end of the run, if it has one. ``groups``: the numbers to show.
    ``screen``: a rich console to use instead of standard output; ``clock``: seconds.
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
        # imported here because a robot that only plans does not need rich
        from rich.console import Console

        console = screen or Console()
        self._state = State(title, steps, minutes, groups, clock)
        # rich obeys FORCE_COLOR, which may be set although the output goes to a file
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

    def update(self, numbers: Mapping[str, Any]) -> None:
        """Show the latest numbers; those that are not in ``numbers`` stay."""
        self._state.update(numbers)
        self._shown.refresh()

    def remember(self, numbers: Mapping[str, Any]) -> None:
        """Take numbers of an earlier call, in the order of their time, without showing each."""
        self._state.update(numbers)

    def phase(self, what: str, detail: str = "", left_s: float | None = None) -> None:
        """Say what is done now, a count of it, and the seconds that are left, if known."""
        self._state.phase = Phase(what, detail)
        self._state.expect(left_s)
        self._shown.refresh()

    def event(self, text: str) -> None:
        """Write a line that stays."""
        self._shown.write(f"{duration_text(self._state.elapsed)}  {text}")

    def done(self, text: str = "done") -> None:
        """End the screen and write a last line."""
        self._shown.stop()
        self._shown.write(f"{duration_text(self._state.elapsed)}  {text}")
