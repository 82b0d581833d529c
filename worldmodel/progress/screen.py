"""Progress on a terminal: a screen that is drawn again and again, below lines that stay."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from worldmodel.machine import resident_bytes
from worldmodel.progress.curve import POINTS, Curve, sparkline
from worldmodel.progress.state import Group, State, number_text

if TYPE_CHECKING:  # a robot that only plans does not need rich
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

LABEL, NUMBER, GAP = 17, 9, 2  # columns: the longest name, the longest number, the gap between
CURVE = 7  # columns of the shortest curve that is still readable
KEPT_LINES = 20  # lines that are written again after the screen was cleared


class Screen:
    """Draws the state of a run below the lines that were written."""

    def __init__(self, state: State, console: Console) -> None:
        self._state = state
        self._console = console
        self._draws = console.encoding.lower().startswith("utf")
        self._width = console.width
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._live: Any = None

    def start(self) -> None:
        from rich.live import Live

        self._live = Live(get_renderable=self._now, console=self._console, refresh_per_second=2)
        self._live.start()

    def refresh(self) -> None:
        """Draw all again if the terminal became narrower, because its lines were wrapped."""
        before, self._width = self._width, self._console.width
        if self._live is not None and self._width < before:
            self.stop()
            self._console.clear()
            for line in self._lines:
                self._print(line)
            self.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def write(self, line: str) -> None:
        """Write a line above the screen, where it stays."""
        self.refresh()
        self._lines.append(line)
        self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def _now(self) -> RenderableType:
        """The present screen: progress, scores, costs, and the other curves."""
        from rich import console, text

        state = self._state
        place: list[tuple[str, RenderableType]] = []
        if steps := state.steps_text():
            place.append(("env steps", steps))
        if state.share is not None:
            place.append(("", _bar(state.share)))
        cost: list[tuple[str, RenderableType]] = []
        others = []
        for group in state.groups:
            if not group.title:
                place += self._readings(group)
            elif group.has_curves:
                others.append(self._side_by_side(self._readings(group)))
            elif numbers := state.group_text(group):
                cost.append((group.title, numbers))
        if memory := resident_bytes():
            cost.append(("memory", f"{memory / 1e9:.2f} GB"))
        cost.append(("time", state.time_text()))
        if checkpoint := state.checkpoint_text():
            cost.append(("checkpoint", checkpoint))
        title = text.Text(state.title, style="bold", no_wrap=True, overflow="ellipsis")
        # the other curves come last, because a low screen cuts off the end
        return console.Group(title, _table(place), _table(cost), *others)

    def _readings(self, group: Group) -> list[tuple[str, RenderableType]]:
        latest = self._state.latest
        readings: list[tuple[str, RenderableType]] = []
        for name, word in group.readings(latest):
            curve = self._state.curves[name] if group.has_curves and self._draws else None
            readings.append((word, Reading(number_text(latest[name]), curve, bool(group.title))))
        return readings

    def _side_by_side(self, readings: Sequence[tuple[str, RenderableType]]) -> Table:
        """Readings in as many columns as leave room for a curve each."""
        smallest = LABEL + NUMBER + (CURVE if self._draws else 0) + 3 * GAP
        columns = max(1, min(len(readings), self._console.width // smallest))
        lines = [readings[at : at + columns] for at in range(0, len(readings), columns)]
        return _table([tuple(part for cell in line for part in cell) for line in lines], columns)


class Reading:
    """A number and, if there is room, its curve."""

    def __init__(self, number: str, curve: Curve | None, is_logarithmic: bool) -> None:
        self._number = number
        self._curve = curve
        self._is_logarithmic = is_logarithmic  # else the first fall of a loss would hide the rest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        room = options.max_width - NUMBER - GAP
        words = self._number
        if self._curve is not None and room >= 1:
            points = self._curve.points(room)
            if self._is_logarithmic and min(points, default=0.0) > 0:
                points = [math.log(point) for point in points]
            words = f"{self._number:<{NUMBER}}{' ' * GAP}{sparkline(points)}"
        yield Text(words, no_wrap=True, overflow="ellipsis")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(len(self._number), NUMBER + GAP + 2 * POINTS).clamp(
            max_width=options.max_width
        )


def _bar(share: float) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    bar = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    bar.add_column(ratio=1)
    bar.add_column(width=len("100%"), justify="right", no_wrap=True)
    bar.add_row(ProgressBar(total=1.0, completed=share), f"{share:.0%}")
    return bar


def _table(lines: Sequence[Sequence[RenderableType]], pairs: int = 1) -> Table:
    """Labels and values in ``pairs`` pairs of columns, over the whole width."""
    from rich.table import Table

    table = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    for _ in range(pairs):
        table.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for line in lines:
        table.add_row(*line)
    return table
