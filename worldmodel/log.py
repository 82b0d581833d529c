"""The text files of a run: metrics and evaluations, with a copy in TensorBoard.

``Journal`` writes them, the ``read_`` functions read them, while it is at work or later. A line of
``metrics.jsonl`` holds some of::

    env_steps, wall_clock_s       where the run is
    train_return                  return of the last training episode
    loss/NAME                     losses of the last updates
    updates_per_s, frames_per_s   how fast it learns and collects
    skipped_updates               updates so far whose gradient was NaN or infinite
    plan_ms                       what one plan takes
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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel import files
from worldmodel.structs import Episode
from worldmodel.video import side_by_side, write_video

METRICS, EVALUATIONS = "metrics.jsonl", "eval.csv"
COLUMNS = ["env_steps", "wall_clock_s", "episode", "seed", "return"]
HEADER = f"""\
# env_steps: simulator steps collected for training so far, action repeat included
# return: sum of the rewards of one whole episode, played by the planner without added noise
{",".join(COLUMNS)}
"""
THUMBNAIL = "thumbnail.gif"
THUMBNAIL_IMAGES, THUMBNAIL_PER_S = 100, 15  # of however long an episode
STRIP_IMAGES = 10  # of the first episode, in TensorBoard

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
        """Append one line; a number that is not finite is null, because JSON has no NaN."""
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
        """Append one line for each episode."""
        rows = [
            f"{env_steps},{wall_clock_s:.3f},{episode},{seed},{float(score)!r}\n"
            for episode, (seed, score) in enumerate(zip(seeds, returns, strict=True))
        ]
        _append(self._run / EVALUATIONS, "".join(rows))
        mirror = self._find_mirror(env_steps)
        if mirror is not None and len(returns):
            mirror.add_scalar("score", float(np.mean(returns)), env_steps)

    def show(self, env_steps: int, episodes: Sequence[Episode]) -> None:
        """Write the last evaluation as a small video, its episodes side by side."""
        if importlib.util.find_spec("imageio") is not None:  # a robot does without
            images = side_by_side([e.image for e in episodes], THUMBNAIL_IMAGES)
            write_video(self._run / THUMBNAIL, images, THUMBNAIL_PER_S)
        mirror = self._find_mirror(env_steps)
        if mirror is not None:
            strip = np.concatenate(list(side_by_side([episodes[0].image], STRIP_IMAGES)), axis=1)
            mirror.add_image("evaluation", strip, env_steps, dataformats="HWC")

    def position(self) -> dict[str, int]:
        """Sync the files and return their lengths, for the checkpoint."""
        lengths = {}
        for name in (METRICS, EVALUATIONS):
            with open(self._run / name, "ab") as file:
                os.fsync(file.fileno())
                lengths[name] = file.tell()
        return lengths

    def rewind(self, position: Mapping[str, int]) -> None:
        """Drop what was written after ``position``, and all of a file that it does not name."""
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
            files.write(path, HEADER.encode())

    def _mirror_metrics(self, values: Mapping[str, Any]) -> None:
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
        step = int(numbers.pop("env_steps", 0))
        mirror = self._find_mirror(step)
        if mirror is not None:
            for name, value in numbers.items():
                mirror.add_scalar(name, value, step)

    def _find_mirror(self, step: int) -> _Mirror | None:
        """Open TensorBoard at the first number; later steps of an earlier sitting are dropped."""
        if not self._mirror_is_looked_for:
            self._mirror_is_looked_for = True
            self._mirror = _find_tensorboard(self._run / "tensorboard", step)
        return self._mirror


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read every whole line of a ``metrics.jsonl``; null becomes NaN again."""
    rows = []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            row = json.loads(line)
            rows.append({k: math.nan if v is None else v for k, v in row.items()})
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}: line {number}: expected a JSON object: {line}") from error
    return rows


def read_evaluations(path: Path) -> list[Evaluation]:
    """Read every whole line of an ``eval.csv``; episodes of one moment are one evaluation."""
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


class _Mirror(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def add_image(
        self, tag: str, img_tensor: NDArray[np.uint8], global_step: int, *, dataformats: str
    ) -> None: ...


def _find_tensorboard(folder: Path, first_step: int) -> _Mirror | None:
    """TensorBoard's writer, which drops later steps that an earlier sitting wrote."""
    try:  # an extra
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    mirror: _Mirror = SummaryWriter(str(folder), purge_step=first_step)
    return mirror


def _plain(value: Any) -> Any:
    """The value as JSON knows it; numpy's and torch's numbers have ``item``."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file without an unfinished last one, left by a kill or a writer at work."""
    return path.read_text().split("\n")[:-1]


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
