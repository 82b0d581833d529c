"""The text files of a run: metrics and evaluations, with a copy in TensorBoard.

``Journal`` writes them; the ``read_`` functions read them, during the run or later. A line of
``metrics.jsonl`` holds some of::

    env_steps, wall_clock_s       progress of the run
    train_return                  return of the last training episode
    loss/NAME                     losses of the last updates
    updates_per_s, frames_per_s   speed of learning and collecting
    skipped_updates               updates so far whose gradient was NaN or infinite
    plan_ms                       milliseconds of one plan
"""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from worldmodel import files

if TYPE_CHECKING:  # commands read the files of a run, and mistakes are answered without numpy
    import numpy as np
    from numpy.typing import NDArray

    from worldmodel.video import Images

METRICS, EVALUATIONS = "metrics.jsonl", "eval.csv"
COLUMNS = ["env_steps", "wall_clock_s", "episode", "seed", "return"]
HEADER = f"""\
# env_steps: simulator steps collected for training so far, action repeat included
# return: sum of the rewards of one whole episode, played by the planner without added noise
{",".join(COLUMNS)}
"""
THUMBNAIL = "thumbnail.gif"
THUMBNAIL_IMAGES, THUMBNAIL_PER_S = 100, 15  # of an episode of any length
LONGEST_LINE = 65_536  # bytes of a line of metrics.jsonl, at most
STRIP_IMAGES = 10  # of the first episode, in TensorBoard

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Evaluation:
    """Episodes that were played with the weights of one moment of a run."""

    env_steps: int
    wall_clock_s: float
    returns: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


class Journal:
    """Writes the text files of a run, and a copy for TensorBoard if it is installed."""

    def __init__(self, run: Path) -> None:
        self._run = run
        run.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, EVALUATIONS):
            _drop_unfinished_line(run / name)
        self._write_header()
        self._tensorboard: _TensorBoard | None = None
        self._has_looked_for_tensorboard = False

    def metrics(self, row: Mapping[str, float | int | str]) -> None:
        """Append one line; NaN and infinity become null, because JSON has neither."""
        first = {name: row[name] for name in ("env_steps", "wall_clock_s") if name in row}
        values = {name: _plain(value) for name, value in {**first, **row}.items()}
        _append(self._run / METRICS, json.dumps(values, allow_nan=False) + "\n")
        self._copy_metrics(values)

    def evaluation(
        self,
        env_steps: int,
        wall_clock_s: float,
        returns: Sequence[float],
        seeds: Sequence[int],
    ) -> None:
        """Append one line for each episode."""
        lines = [
            f"{env_steps},{wall_clock_s:.3f},{episode},{seed},{float(score)!r}\n"
            for episode, (seed, score) in enumerate(zip(seeds, returns, strict=True))
        ]
        _append(self._run / EVALUATIONS, "".join(lines))
        tensorboard = self._open_tensorboard(env_steps)
        if tensorboard is not None and len(returns):
            import numpy as np

            tensorboard.add_scalar("score", float(np.mean(returns)), env_steps)

    def show(self, env_steps: int, videos: Sequence[Images]) -> None:
        """Write the last evaluation [T, H, W, 3] as a small video, its episodes side by side."""
        from worldmodel.video import side_by_side, write_video

        if importlib.util.find_spec("imageio") is not None:  # optional, as on a robot
            images = side_by_side(videos, THUMBNAIL_IMAGES)
            write_video(self._run / THUMBNAIL, images, THUMBNAIL_PER_S)
        tensorboard = self._open_tensorboard(env_steps)
        if tensorboard is not None:
            import numpy as np

            strip = np.concatenate(list(side_by_side(videos[:1], STRIP_IMAGES)), axis=1)
            tensorboard.add_image("evaluation", strip, env_steps, dataformats="HWC")

    def history(self) -> tuple[list[dict[str, Any]], list[Evaluation]]:
        """What was written so far, to show it again; of a damaged file, nothing."""
        metrics: list[dict[str, Any]] = []
        evaluations: list[Evaluation] = []
        try:
            if (self._run / METRICS).exists():
                metrics = read_metrics(self._run / METRICS)
            evaluations = read_evaluations(self._run / EVALUATIONS)
        except (OSError, ValueError) as error:
            logger.warning("the screen does not show the curves of before: %s", error)
        return metrics, evaluations

    def position(self) -> dict[str, int]:
        """Sync the files and return their lengths, for the checkpoint."""
        lengths = {}
        for name in (METRICS, EVALUATIONS):
            with open(self._run / name, "ab") as file:
                os.fsync(file.fileno())
                lengths[name] = file.tell()
        return lengths

    def rewind(self, position: Mapping[str, int]) -> None:
        """Drop lines written after ``position``, and all of a file that it does not name."""
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
                    file.truncate(length)  # atomic, as only the length changes
                os.fsync(file.fileno())
        self._write_header()

    def _write_header(self) -> None:
        path = self._run / EVALUATIONS
        if not path.exists() or path.stat().st_size < len(HEADER):
            files.write(path, HEADER.encode())

    def _copy_metrics(self, values: Mapping[str, Any]) -> None:
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
        step = int(numbers.pop("env_steps", 0))
        tensorboard = self._open_tensorboard(step)
        if tensorboard is not None:
            for name, value in numbers.items():
                tensorboard.add_scalar(name, value, step)

    def _open_tensorboard(self, step: int) -> _TensorBoard | None:
        """Open TensorBoard's writer, at the first call; None if it is not installed."""
        if not self._has_looked_for_tensorboard:
            self._has_looked_for_tensorboard = True
            self._tensorboard = _find_tensorboard(self._run / "tensorboard", step)
        return self._tensorboard


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read every complete line of a ``metrics.jsonl``; null becomes NaN again."""
    read = []
    for number, line in enumerate(_complete_lines(path), start=1):
        try:
            metrics = json.loads(line)
            read.append({k: math.nan if v is None else v for k, v in metrics.items()})
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}: line {number}: expected a JSON object: {line}") from error
    return read


def last_metrics(path: Path) -> dict[str, Any]:
    """The last complete line of a ``metrics.jsonl``, without reading the others."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINE))
        lines = file.read().split(b"\n")[:-1]
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last


def read_evaluations(path: Path) -> list[Evaluation]:
    """Read every complete line of an ``eval.csv``; episodes of one moment are one evaluation."""
    lines = [line for line in _complete_lines(path) if not line.startswith("#")]
    found: dict[tuple[int, float], Evaluation] = {}
    for line in csv.DictReader(lines):
        try:
            moment = int(line["env_steps"]), float(line["wall_clock_s"])
            evaluation = found.setdefault(moment, Evaluation(*moment))
            evaluation.seeds.append(int(line["seed"]))
            evaluation.returns.append(float(line["return"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected {','.join(COLUMNS)}, got {line}") from error
    return list(found.values())


class _TensorBoard(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def add_image(
        self, tag: str, img_tensor: NDArray[np.uint8], global_step: int, *, dataformats: str
    ) -> None: ...


def _find_tensorboard(folder: Path, first_step: int) -> _TensorBoard | None:
    """TensorBoard's writer; it drops steps from ``first_step`` on that an interrupted run wrote."""
    try:  # optional
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer: _TensorBoard = SummaryWriter(str(folder), purge_step=first_step)
    return writer


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; numpy's and torch's numbers have ``item``."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def _complete_lines(path: Path) -> list[str]:
    """The lines of a file; not the last one if a kill, or a present writer, left it unfinished."""
    return path.read_text().split("\n")[:-1]


def _drop_unfinished_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(path, complete)
