"""How a run goes, for whoever watches: one calm screen on a terminal, plain lines elsewhere.

The numbers have the same names as in ``metrics.jsonl``::

    env_steps, wall_clock_s       where the run is
    score                         mean return of the last evaluation
    train_return                  return of the last training episode
    loss/NAME                     losses of the last updates
    updates_per_s, frames_per_s   how fast it learns and collects
    plan_ms                       what one plan takes
    checkpoint_env_steps          where the last checkpoint was written
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

QUIET_S = 10.0  # without a terminal, a line at most this often
BARS = "▁▂▃▄▅▆▇█"
POINTS = 120  # of a curve, at most; the widest screen draws fewer
LABEL, NUMBER, GAP = 17, 9, 2  # columns: the longest name, the longest number, what parts them
CURVE = 7  # columns of the shortest curve that still says something
KEPT_EVENTS = 20  # written again where the screen has to be cleared


class Progress:
    """The screen, or the lines::

        with Progress("cartpole_swingup", steps=100_000, minutes=None) as progress:
            progress.update({"env_steps": 4000, "train_return": 31.5})
            progress.event("checkpoint at 4000")
            progress.done("score 801")

    ``steps``, ``minutes``: where the run will end, if it is known. ``screen``: a rich console in
    the place of standard output; ``clock``: seconds.
    """

    def __init__(
        self,
        title: str,
        steps: int | None,
        minutes: float | None,
        *,
        screen: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # rich is for people at a terminal; a robot that only plans does without it
        from rich.console import Console

        self._title = title
        self._steps = steps
        self._minutes = minutes
        self._screen = screen or Console()
        self._clock = clock
        self._began = clock()  # moved back by what earlier sittings took
        self._first: tuple[float, float] | None = None  # clock and env_steps of the first update
        self._latest: dict[str, Any] = {}
        self._curves: dict[str, Curve] = {}
        self._saved_at: float | None = None  # clock, of the last checkpoint
        self._last_line = -math.inf
        self._events: deque[str] = deque(maxlen=KEPT_EVENTS)
        self._live: Any = None
        # rich believes FORCE_COLOR, which is set in places that only keep a file
        self._is_live = (
            self._screen.file.isatty()
            and self._screen.is_terminal
            and not self._screen.is_dumb_terminal
        )
        self._draws = self._is_live and self._screen.encoding.lower().startswith("utf")
        self._width = self._screen.width

    def __enter__(self) -> Progress:
        if self._is_live:
            self._start()
        else:
            self._print(self._title)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def update(self, row: Mapping[str, Any]) -> None:
        """The latest numbers; those that are not in ``row`` stay."""
        for name, value in row.items():
            if name in ("score", "train_return") or name.startswith("loss/"):
                self._curves.setdefault(name, Curve()).add(value)
        if "wall_clock_s" in row:
            self._began = self._clock() - row["wall_clock_s"]
        if "checkpoint_env_steps" in row:
            self._saved_at = self._clock()
        self._latest = {**self._latest, **row}  # anew: the screen's thread may be reading it
        if self._first is None and "env_steps" in row:
            self._first = self._clock(), row["env_steps"]
        self._fit()
        if self._live is None and self._clock() - self._last_line >= QUIET_S:
            self._last_line = self._clock()
            self._print(self._line())

    def event(self, text: str) -> None:
        """A line that stays."""
        line = f"{_duration(self._elapsed())}  {text}"
        self._events.append(line)
        self._fit()
        self._print(line)

    def done(self, text: str = "done") -> None:
        self._stop()
        self._print(f"{_duration(self._elapsed())}  {text}")

    def _start(self) -> None:
        from rich.live import Live

        self._live = Live(get_renderable=self._now, console=self._screen, refresh_per_second=2)
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _fit(self) -> None:
        """In a terminal that became narrower, lines broke, and nothing is where it was drawn."""
        before, self._width = self._width, self._screen.width
        if self._live is not None and self._width < before:
            self._stop()
            self._screen.clear()
            for line in self._events:
                self._print(line)
            self._start()

    def _print(self, text: str) -> None:
        if self._is_live:
            self._screen.print(text, markup=False, highlight=False)
        else:
            self._screen.file.write(f"{text}\n")
            self._screen.file.flush()

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _left(self) -> float | None:
        """Seconds until the first of the two ends; None while nobody can tell."""
        ends = []
        if self._minutes is not None:
            ends.append(60 * self._minutes - self._elapsed())
        if self._steps is not None and self._first is not None:
            seconds = self._clock() - self._first[0]
            steps = self._latest["env_steps"] - self._first[1]
            if steps > 0 and seconds > 0:
                ends.append((self._steps - self._latest["env_steps"]) * seconds / steps)
        return max(0.0, min(ends)) if ends else None

    def _share(self) -> float | None:
        """Of the way to the first of the two ends; None without an end."""
        shares = []
        if self._minutes:
            shares.append(self._elapsed() / (60 * self._minutes))
        if self._steps:
            shares.append(self._latest.get("env_steps", 0) / self._steps)
        return min(1.0, max(shares)) if shares else None

    def _env_steps(self) -> str:
        target = f" / {self._steps:,}" if self._steps is not None else ""
        return f"{self._latest['env_steps']:,}{target}"

    def _time(self) -> str:
        left = self._left()
        return _duration(self._elapsed()) + (
            f", {_duration(left)} left" if left is not None else ""
        )

    def _line(self) -> str:
        """Without a terminal: what is known so far."""
        latest = self._latest
        words = []
        if "env_steps" in latest:
            words.append(f"env steps {self._env_steps()}")
        for label, name in (("score", "score"), ("training", "train_return")):
            if name in latest:
                words.append(f"{label} {_number(latest[name])}")
        losses = [f"{k[5:]} {_number(v)}" for k, v in latest.items() if k.startswith("loss/")]
        if losses:
            words.append(f"losses {'  '.join(losses)}")
        for label, name in (
            ("updates/s", "updates_per_s"),
            ("frames/s", "frames_per_s"),
            ("plan ms", "plan_ms"),
        ):
            if name in latest:
                words.append(f"{label} {_number(latest[name])}")
        words.append(f"time {self._time()}")
        return "  ".join(words)

    def _now(self) -> Any:
        """On a terminal: where it is, how good it is, what it costs, and the losses."""
        from rich.console import Group
        from rich.text import Text

        latest, width = self._latest, self._screen.width
        place: list[tuple[str, Any]] = []
        if "env_steps" in latest:
            place.append(("env steps", self._env_steps()))
        share = self._share()
        if share is not None:
            place.append(("", self._bar(share, width)))
        for label, name in (("score", "score"), ("training", "train_return")):
            if name in latest:
                place.append((label, self._curve(name, width - LABEL - 2 * GAP - NUMBER)))
        speed = [
            f"{_number(latest[name])} {unit}"
            for name, unit in (("updates_per_s", "updates/s"), ("frames_per_s", "frames/s"))
            if name in latest
        ]
        if "plan_ms" in latest:
            speed.append(f"{_number(latest['plan_ms'])} ms a plan")
        cost = [("speed", ", ".join(speed))] if speed else []
        memory = resident_bytes()
        if memory:
            cost.append(("memory", f"{memory / 1e9:.2f} GB"))
        cost.append(("time", self._time()))
        if self._saved_at is not None and "checkpoint_env_steps" in latest:
            ago = _duration(self._clock() - self._saved_at)
            cost.append(("checkpoint", f"{ago} ago, {latest['checkpoint_env_steps']:,} env steps"))
        title = Text(self._title, style="bold", no_wrap=True, overflow="ellipsis")
        # the losses last: it is the end that a low screen cuts off
        return Group(title, _table(place), _table(cost), *self._losses(width))

    def _losses(self, width: int) -> list[Any]:
        """Side by side, as many as keep a curve."""
        from rich.table import Table

        names = [name for name in self._latest if name.startswith("loss/")]
        if not names:
            return []
        smallest = LABEL + NUMBER + (CURVE if self._draws else 0) + 3 * GAP
        columns = max(1, min(len(names), width // smallest))
        room = width // columns - LABEL - NUMBER - 3 * GAP
        table = Table.grid(padding=(0, GAP, 0, 0))
        for _ in range(columns):
            table.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
            table.add_column(width=NUMBER + GAP + room if self._draws else NUMBER, no_wrap=True)
        cells = [(name.removeprefix("loss/"), self._curve(name, room)) for name in names]
        for begin in range(0, len(cells), columns):
            table.add_row(*(part for cell in cells[begin : begin + columns] for part in cell))
        return [table]

    def _curve(self, name: str, room: int) -> str:
        latest = _number(self._latest[name])
        if not self._draws or room < 1:
            return latest
        points = self._curves[name].points(room)
        if name.startswith("loss/") and min(points, default=0.0) > 0:
            points = [math.log(point) for point in points]  # the first fall would hide the rest
        return f"{latest:<{NUMBER}}{' ' * GAP}{sparkline(points)}"

    def _bar(self, share: float, width: int) -> str:
        if not self._draws:
            return f"{share:.0%}"
        room = max(1, width - LABEL - 3 * GAP - len("100%"))
        done = round(share * room)
        return f"{'━' * done}{'╌' * (room - done)}  {share:.0%}"


class Curve:
    """A number over the whole run in bounded room: when it is full, neighbours become one."""

    def __init__(self) -> None:
        self._means: list[float] = []  # each of as many values as any other
        self._values_per_mean = 1
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        self._waiting.append(float(value))
        if len(self._waiting) < self._values_per_mean:
            return
        means = [*self._means, _mean(self._waiting)]
        self._waiting = []
        if len(means) == 2 * POINTS:
            means = [_mean(means[at : at + 2]) for at in range(0, len(means), 2)]
            self._values_per_mean *= 2
        self._means = means  # at once: the screen's thread may be reading it

    def points(self, most: int) -> list[float]:
        """From first to last, in at most so many."""
        means = self._means
        count = min(most, len(means))
        edges = [round(part * len(means) / count) for part in range(count + 1)] if count else [0]
        return [_mean(means[begin:end]) for begin, end in pairwise(edges)]


def sparkline(values: Sequence[float]) -> str:
    """A small drawing of some numbers: the lowest is ▁, the highest █."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values
    )


def resident_bytes(process: Path = Path("/proc/self")) -> int:
    """Memory of a process and of those that it started; 0 where the system does not say."""
    total = 0
    waiting = [process]
    while waiting:
        one = waiting.pop()
        try:
            status = (one / "status").read_text()
            children = [path.read_text() for path in one.glob("task/*/children")]
        except OSError:  # it ended, or this is no Linux
            continue
        resident = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        total += sum(int(line.split()[1]) * 1024 for line in resident)
        waiting += [process.parent / number for text in children for number in text.split()]
    return total


def _table(rows: Sequence[tuple[str, Any]]) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="dim", justify="right", width=LABEL, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: float) -> str:
    """Three to four digits that say something."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
