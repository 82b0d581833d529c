"""Progress on a terminal: a screen that is drawn again and again, below lines that stay."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from worldmodel.machine import resident_bytes
from worldmodel.progress.curve import POINTS, Curve, sparkline
from worldmodel.progress.digits import HEIGHT, large
from worldmodel.progress.state import Direction, Group, State, number_text, score_number

if TYPE_CHECKING:  # a robot that only plans does not need rich
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

# Columns: the longest name, plain words, the longest number, and the gap between two of them
LABEL, WORDS, NUMBER, GAP = 17, 21, 9, 2
CURVE = 7  # columns of the shortest curve that is still readable
WORDY = LABEL + WORDS + NUMBER + CURVE + 5 * GAP  # least columns of a group with plain words
KEPT_LINES = 20  # lines that are written again after the screen was cleared
SIGNS: dict[Direction, tuple[str, str]] = {  # drawn, and where only ASCII is known
    "lower is better": ("↓", "v"),
    "should grow": ("↑", "^"),
    "no direction": ("·", "-"),
}


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
        """The present screen: the score, the phase, times and costs, and then the losses."""
        from rich import console, text

        state = self._state
        title = text.Text(state.title, style="bold", no_wrap=True, overflow="ellipsis")
        shown: list[RenderableType] = [title]
        if "score" in state.latest:
            shown.append(self._score())
        lines: list[tuple[str, RenderableType]] = []
        if "train_return" in state.latest:
            lines.append(("training return", self._reading("train_return", is_logarithmic=False)))
        if state.phase.what:
            lines.append(("now", text.Text(str(state.phase), style="bold")))
        lines.append(("time", _time(state.time_text(), state.share)))
        if steps := state.steps_text():
            lines.append(("env steps", steps))
        lines += self._costs()
        if checkpoint := state.checkpoint_text():
            lines.append(("checkpoint", checkpoint))
        # the losses come last, because a low screen cuts off the end
        return console.Group(*shown, _table(lines), *self._losses())

    def _score(self) -> RenderableType:
        """The score in large digits; to their right how it was measured, and its curve."""
        from rich import console, table, text

        state = self._state
        digits = score_number(state.latest["score"])
        lines = large(digits) if self._draws else [digits]
        page = table.Table.grid(expand=True, padding=(0, GAP, 0, 0))
        page.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
        page.add_column(no_wrap=True, overflow="ellipsis", style="bold green")
        page.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        words = console.Group(
            text.Text(state.score_text(), style="bold", no_wrap=True, overflow="ellipsis"),
            text.Text(state.evaluation_text(), style="dim", no_wrap=True, overflow="ellipsis"),
            Line(state.curves.get("score") if self._draws else None),
        )
        label = "\n" * (len(lines) // 2) + "score"
        assert len(lines) in (1, HEIGHT)
        page.add_row(label, text.Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), words)
        return page

    def _costs(self) -> list[tuple[str, RenderableType]]:
        """A line for each group without curves; memory is in the first of them."""
        texts = [
            (group.title, self._state.group_text(group))
            for group in self._state.groups
            if not group.has_curves
        ]
        known = [(title, text) for title, text in texts if text]
        if memory := resident_bytes():
            taken = f"{memory / 1e9:.2f} GB"
            if known:
                title, costs = known[0]
                known[0] = title, f"{costs}, {taken} of memory"
            else:
                known = [("memory", taken)]
        return [*known]

    def _losses(self) -> list[RenderableType]:
        """The groups with curves, in two columns if there is room for their plain words."""
        groups = [
            group
            for group in self._state.groups
            if group.has_curves and self._state.readings(group, self._state.latest)
        ]
        if len(groups) > 1 and self._console.width >= 2 * WORDY:
            from rich.table import Table

            page = Table.grid(expand=True, padding=(0, GAP, 0, 0))
            page.add_column(ratio=1)
            page.add_column(ratio=1)
            tables = [self._group(group, has_words=True) for group in groups]
            for at in range(0, len(tables), 2):
                page.add_row(*tables[at : at + 2])
            return [page]
        return [self._group(group, self._console.width >= WORDY) for group in groups]

    def _group(self, group: Group, has_words: bool) -> Table:
        """A group: a title that says the directions, then a line for each number."""
        from rich.table import Table
        from rich.text import Text

        names = self._state.readings(group, self._state.latest)
        directions = dict.fromkeys(group.direction_of(name) for name, _ in names)
        said = ", ".join(f"{self._sign(each)} {each}" for each in directions)
        page = Table.grid(expand=True, padding=(0, GAP, 0, 0))
        page.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
        page.add_column(width=1, no_wrap=True)
        if has_words:
            page.add_column(width=WORDS, no_wrap=True, overflow="ellipsis")
        page.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for name, words in names:
            cells: list[RenderableType] = [
                name.rpartition("/")[2],
                self._sign(group.direction_of(name)),
            ]
            page.add_row(*cells, *([words] if has_words else []), self._reading(name, True))
        outer = Table.grid(expand=True)
        outer.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        outer.add_row(Text.assemble((f"{group.title}: ", "bold"), (said, "dim")))
        outer.add_row(page)
        return outer

    def _sign(self, direction: Direction) -> str:
        drawn, ascii_sign = SIGNS[direction]
        return drawn if self._draws else ascii_sign

    def _reading(self, name: str, is_logarithmic: bool) -> Reading:
        curve = self._state.curves.get(name) if self._draws else None
        return Reading(number_text(self._state.latest[name]), curve, is_logarithmic)


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


class Line:
    """A curve alone, as wide as there is room."""

    def __init__(self, curve: Curve | None) -> None:
        self._curve = curve

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        points = self._curve.points(max(1, options.max_width)) if self._curve else []
        yield Text(sparkline(points), no_wrap=True, overflow="ellipsis")


def _time(words: str, share: float | None) -> RenderableType:
    """The times, then a bar if the share that is over is known."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    if share is None:
        return words
    bar = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    bar.add_column(no_wrap=True, overflow="ellipsis")
    bar.add_column(ratio=1)
    bar.add_column(width=len("100%"), justify="right", no_wrap=True)
    bar.add_row(words, ProgressBar(total=1.0, completed=share), f"{share:.0%}")
    return bar


def _table(lines: Sequence[tuple[str, RenderableType]]) -> Table:
    """Labels and values, over the whole width."""
    from rich.table import Table

    table = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    table.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for line in lines:
        table.add_row(*line)
    return table
