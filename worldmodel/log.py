"""What a run tells: its text files, and the lines on the screen.

``Journal`` writes ``metrics.jsonl`` and ``eval.csv`` of a run folder, ``Progress`` shows how it
goes, on a terminal as a table that stays in its place, elsewhere as plain lines. Numbers have the
same names in both::

    env_steps, wall_clock_s       where the run is
    score                         mean return of the last evaluation
    train_return                  return of the last training episode
    loss/NAME                     losses of the last updates
    updates_per_s, frames_per_s   how fast it learns and collects
    plan_ms                       what one plan takes
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

METRICS, EVALUATIONS = "metrics.jsonl", "eval.csv"
COLUMNS = ["env_steps", "wall_clock_s", "episode", "seed", "return"]
HEADER = f"""\
# env_steps: simulator steps collected for training so far, action repeat included
# return: sum of the rewards of one whole episode, played by the planner without added noise
{",".join(COLUMNS)}
"""
QUIET_S = 10.0  # without a terminal, a line at most this often
BARS = "▁▂▃▄▅▆▇█"

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Evaluation:
    """Some episodes played at one moment of a run."""

    env_steps: int
    wall_clock_s: float
    returns: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


class Journal:
    """The text files of a run, and TensorBoard's mirror of them where it is installed."""

    def __init__(self, run: Path) -> None:
        self._run = run
        run.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, EVALUATIONS):
            _drop_torn_line(run / name)
        self._write_header()
        self._mirror: _Mirror | None = None
        self._mirror_is_looked_for = False

    def metrics(self, row: Mapping[str, float | int | str]) -> None:
        """One line; a number that is not finite is written as null, as JSON wants it."""
        first = {name: row[name] for name in ("env_steps", "wall_clock_s") if name in row}
        values = {name: _plain(value) for name, value in {**first, **row}.items()}
        _append(self._run / METRICS, json.dumps(values, allow_nan=False) + "\n")
        self._mirror_metrics(values)

    def evaluation(
        self,
        env_steps: int,
        wall_clock_s: float,
        returns: Sequence[float],
        seeds: Sequence[int],
    ) -> None:
        """One line an episode."""
        rows = [
            f"{env_steps},{wall_clock_s:.3f},{episode},{seed},{float(score)!r}\n"
            for episode, (seed, score) in enumerate(zip(seeds, returns, strict=True))
        ]
        _append(self._run / EVALUATIONS, "".join(rows))

    def position(self) -> dict[str, int]:
        """How long the files are, all of it safe on the disk: for the checkpoint."""
        lengths = {}
        for name in (METRICS, EVALUATIONS):
            with open(self._run / name, "ab") as file:
                os.fsync(file.fileno())
                lengths[name] = file.tell()
        return lengths

    def rewind(self, position: Mapping[str, int]) -> None:
        """Drop what was written after ``position``; of a file that it does not name, all."""
        for name in (METRICS, EVALUATIONS):
            path = self._run / name
            length = position.get(name, 0)
            with open(path, "ab") as file:
                if file.tell() < length:
                    logger.warning(
                        "%s: expected at least %d bytes, got %d; lines are lost",
                        path,
                        length,
                        file.tell(),
                    )
                else:
                    file.truncate(length)  # one change of one number: nothing can tear it
                os.fsync(file.fileno())
        self._write_header()

    def _write_header(self) -> None:
        path = self._run / EVALUATIONS
        if not path.exists() or path.stat().st_size < len(HEADER):
            beside = path.with_name(f".{path.name}.writing")
            beside.write_text(HEADER)
            os.replace(beside, path)

    def _mirror_metrics(self, values: Mapping[str, Any]) -> None:
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
        step = int(numbers.pop("env_steps", 0))
        if not self._mirror_is_looked_for:
            self._mirror_is_looked_for = True
            self._mirror = _find_tensorboard(self._run / "tensorboard", step)
        if self._mirror is not None:
            for name, value in numbers.items():
                self._mirror.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a ``metrics.jsonl``; null becomes NaN again."""
    rows = []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            row = json.loads(line)
            rows.append({k: math.nan if v is None else v for k, v in row.items()})
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}: line {number}: expected a JSON object: {line}") from error
    return rows


def read_evaluations(path: Path) -> list[Evaluation]:
    """Every whole line of an ``eval.csv``, episodes of one moment together."""
    lines = [line for line in _whole_lines(path) if not line.startswith("#")]
    found: dict[tuple[int, float], Evaluation] = {}
    for row in csv.DictReader(lines):
        try:
            moment = int(row["env_steps"]), float(row["wall_clock_s"])
            evaluation = found.setdefault(moment, Evaluation(*moment))
            evaluation.seeds.append(int(row["seed"]))
            evaluation.returns.append(float(row["return"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected {','.join(COLUMNS)}, got {row}") from error
    return list(found.values())


class Progress:
    """How the run goes, for whoever watches::

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
        self._train_returns: deque[float] = deque(maxlen=30)
        self._scores: deque[float] = deque(maxlen=30)
        self._last_line = -math.inf
        self._last_event = ""
        self._live: Any = None
        # rich believes FORCE_COLOR, which is set in places that only keep a file
        self._is_live = (
            self._screen.file.isatty()
            and self._screen.is_terminal
            and not self._screen.is_dumb_terminal
        )
        self._draws = self._is_live and self._screen.encoding.lower().startswith("utf")

    def __enter__(self) -> Progress:
        if self._is_live:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table, console=self._screen, refresh_per_second=2
            )
            self._live.start()
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
        self._latest |= row
        if "train_return" in row:
            self._train_returns.append(row["train_return"])
        if "score" in row:
            self._scores.append(row["score"])
        if "wall_clock_s" in row:
            self._began = self._clock() - row["wall_clock_s"]
        if self._first is None and "env_steps" in row:
            self._first = self._clock(), row["env_steps"]
        if self._live is None and self._clock() - self._last_line >= QUIET_S:
            self._last_line = self._clock()
            self._print(self._line())

    def event(self, text: str) -> None:
        """A line that stays."""
        self._last_event = text
        self._print(f"{_duration(self._elapsed())}  {text}")

    def done(self, text: str = "done") -> None:
        self._stop()
        self._print(f"{_duration(self._elapsed())}  {text}")

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str) -> None:
        if self._is_live:
            self._screen.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._screen.file, flush=True)

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

    def _cells(self) -> list[tuple[str, str]]:
        """Label and content, of what is known so far."""
        latest = self._latest
        cells = []
        if "env_steps" in latest:
            target = f" / {self._steps:,}" if self._steps is not None else ""
            cells.append(("env steps", f"{latest['env_steps']:,}{target}"))
        if self._scores:
            cells.append(("score", self._curve(self._scores)))
        if self._train_returns:
            cells.append(("training", self._curve(self._train_returns)))
        losses = [f"{k[5:]} {_number(v)}" for k, v in latest.items() if k.startswith("loss/")]
        if losses:
            cells.append(("losses", "  ".join(losses)))
        for label, name in (
            ("updates/s", "updates_per_s"),
            ("frames/s", "frames_per_s"),
            ("plan ms", "plan_ms"),
        ):
            if name in latest:
                cells.append((label, _number(latest[name])))
        left = self._left()
        remaining = f", {_duration(left)} left" if left is not None else ""
        cells.append(("time", _duration(self._elapsed()) + remaining))
        return cells

    def _curve(self, values: Sequence[float]) -> str:
        return f"{_number(values[-1])}  {sparkline(values)}" if self._draws else _number(values[-1])

    def _line(self) -> str:
        return "  ".join(f"{label} {content}" for label, content in self._cells())

    def _table(self) -> Any:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right", no_wrap=True)
        table.add_column()
        table.add_row("", self._title)
        for label, content in self._cells():
            table.add_row(label, content)
        if self._last_event:
            table.add_row("last", self._last_event)
        return table


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


class _Mirror(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


def _find_tensorboard(folder: Path, first_step: int) -> _Mirror | None:
    """Its writer, which forgets what an earlier sitting told about later steps."""
    try:  # an extra
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    mirror: _Mirror = SummaryWriter(str(folder), purge_step=first_step)
    return mirror


def _plain(value: Any) -> Any:
    """What JSON can say of a value; numpy's and torch's numbers have ``item``."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def _whole_lines(path: Path) -> list[str]:
    """Without the torn one that a kill, or a writer at work, may leave at the end."""
    return path.read_text().split("\n")[:-1]


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def _number(value: float) -> str:
    """Three to four digits that say something."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
