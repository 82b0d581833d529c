"""The black box: a controller's last minute, kept in memory, and written to a file after a stop."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel import files
from worldmodel.columns import aligned
from worldmodel.robot.input_check import CheckedInput
from worldmodel.robot.messages import Answer

KEPT_S = 60.0  # of rows in memory
MOST_BYTES = 32 * 2**20  # of images in memory; a minute of 64x64 images at 20 Hz takes 15 MB
MOST_SIDE = 64  # pixels; of a larger image every second, third, ... pixel is kept
MOST_FILES = 20  # of a folder; the oldest are removed, so that stops cannot fill a disk
SHOWN = 20  # rows of a recording as text


@dataclass(frozen=True)
class StepRow:
    """One step of a controller, in the motor's units."""

    seconds: float  # by the controller's clock
    level: str  # plan, shifted, hold or stop
    fault: str  # of the input: bad_image, late_image, ...; empty if there was none
    image: NDArray[np.uint8] | None  # [H, W, C]; None if the input had a fault
    executed: NDArray[np.float64] | None  # [A] as the robot reported it
    action: NDArray[np.float32]  # [A] what the controller answered
    plan_origin: str  # of the plan that arrived in this step: search, policy, previous or empty
    plan_ms: float  # how long that plan took; NaN if none arrived
    error: str  # of the planner, in this step

    @classmethod
    def of(
        cls,
        seconds: float,
        level: str,
        checked: CheckedInput | None,
        executed: NDArray[np.float64] | None,
        action: NDArray[np.float32],
        answer: Answer | None,
    ) -> StepRow:
        """``checked`` None: the controller itself failed before the input was checked.

        ``answer``: the newest that arrived in this step.
        """
        return cls(
            seconds,
            level,
            fault="own_error" if checked is None else checked.fault or "",
            image=None if checked is None else checked.image,
            executed=executed,
            action=action.copy(),
            plan_origin=(answer and answer.origin) or "",
            plan_ms=math.nan if answer is None else answer.milliseconds,
            error=(answer and answer.error) or "",
        )


@dataclass(frozen=True)
class Recording:
    """What a black box holds: T steps, the newest last."""

    seconds: NDArray[np.float64]  # [T] by the controller's clock
    level: NDArray[np.str_]  # [T]
    fault: NDArray[np.str_]  # [T] of the input; empty if there was none
    image: NDArray[np.uint8]  # [T, H, W, C] black where has_image is False
    has_image: NDArray[np.bool_]  # [T]
    executed: NDArray[np.float64]  # [T, A] NaN where the robot reported nothing
    action: NDArray[np.float32]  # [T, A]
    plan_origin: NDArray[np.str_]  # [T] empty where no plan arrived
    plan_ms: NDArray[np.float64]  # [T] NaN where no plan arrived
    error: NDArray[np.str_]  # [T] of the planner; empty if there was none
    about: Mapping[str, Any]  # limits, rate, counts, and the time of writing

    def __len__(self) -> int:
        return len(self.seconds)

    def __str__(self) -> str:
        """A table of the last steps."""
        lines: list[tuple[str, ...]] = [
            ("s before the end", "level", "fault", "plan", "ms", "action")
        ]
        for row in range(max(0, len(self) - SHOWN), len(self)):
            took_ms = self.plan_ms[row]
            lines.append(
                (
                    f"{self.seconds[-1] - self.seconds[row]:.2f}",
                    str(self.level[row]),
                    str(self.fault[row] or self.error[row][:40]),
                    str(self.plan_origin[row]),
                    "" if math.isnan(took_ms) else f"{took_ms:.0f}",
                    " ".join(f"{number:.3g}" for number in self.action[row]),
                )
            )
        return aligned(lines)


class BlackBox:
    """Keeps the last rows of a controller; with a ``folder`` a thread writes them after a stop.

    Keeping a row copies no image and writes nothing, so it cannot delay a step. What the disk
    refuses is counted.
    """

    def __init__(
        self, image_shape: Sequence[int], rate_hz: float, folder: str | Path | None
    ) -> None:
        self._stride = max(1, math.ceil(max(image_shape[:2]) / MOST_SIDE))
        height, width = (math.ceil(side / self._stride) for side in image_shape[:2])
        self._shape = (height, width, *image_shape[2:])
        most = MOST_BYTES // math.prod(self._shape)
        self._rows: deque[StepRow] = deque(maxlen=max(1, min(most, math.ceil(KEPT_S * rate_hz))))
        self._folder = None if folder is None else Path(folder)
        self._counts = {} if folder is None else {"boxes_written": 0, "boxes_failed": 0}
        self._waiting: queue.SimpleQueue[tuple[list[StepRow], dict[str, Any]] | None]
        self._waiting = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if self._folder is not None:
            _require_writable(self._folder)
            self._thread = threading.Thread(
                target=self._write_all, name="worldmodel-black-box", daemon=True
            )
            self._thread.start()

    @property
    def counts(self) -> dict[str, int]:
        """Files written and failed; empty without a folder."""
        return dict(self._counts)

    def keep(self, row: StepRow) -> None:
        """Add a row; the oldest one is forgotten."""
        self._rows.append(row)

    def write_soon(self, about: dict[str, Any]) -> None:
        """Let the thread write all rows, if there is a folder; return at once."""
        if self._thread is not None:
            self._waiting.put((list(self._rows), about))

    def save(self, path: str | Path, about: Mapping[str, Any]) -> Path:
        """Write all rows to this file now."""
        path = Path(path)
        self._write(path, list(self._rows), about)
        return path

    def close(self) -> None:
        """Write what waits, and end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=10.0)

    def _write_all(self) -> None:
        """The work of the thread."""
        assert self._folder is not None
        while (given := self._waiting.get()) is not None:
            rows, about = given
            stamp = time.strftime("%Y%m%d-%H%M%S")
            try:
                number = about["step"]
                self._write(self._folder / f"stop-{stamp}-{number:09d}.npz", rows, about)
                for old in sorted(self._folder.glob("stop-*.npz"))[:-MOST_FILES]:
                    old.unlink()
                self._counts["boxes_written"] += 1
            except Exception:  # a full disk, a removed folder: the motor goes on
                self._counts["boxes_failed"] += 1

    def _write(self, path: Path, rows: Sequence[StepRow], about: Mapping[str, Any]) -> None:
        if not rows:
            raise ValueError("black box: expected at least one step, got none yet")
        black = np.zeros(self._shape, np.uint8)
        unknown = np.full(len(rows[0].action), np.nan)
        step = self._stride
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in rows])
            for name in ("seconds", "level", "fault", "action", "plan_origin", "plan_ms", "error")
        }
        images = [black if row.image is None else row.image[::step, ::step] for row in rows]
        executed = [unknown if row.executed is None else row.executed for row in rows]
        written = {**about, "written_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with files.replacing(path) as new, new.open("wb") as file:
            np.savez(
                file,
                **columns,
                image=np.stack(images),
                has_image=np.array([row.image is not None for row in rows]),
                executed=np.stack(executed),
                about=np.array(json.dumps(written)),
            )


def read_black_box(path: str | Path) -> Recording:
    """Read a file of a black box; ``print`` shows its last steps. Reading runs no code."""
    names = [field.name for field in fields(Recording)]
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns: dict[str, Any] = {name: stored[name] for name in names}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected a file of a black box: {error}") from error
    return Recording(**{**columns, "about": json.loads(str(columns["about"]))})


def _require_writable(folder: Path) -> None:
    try:
        files.try_writing(folder)
    except OSError as error:
        raise ValueError(
            f"black_box: cannot write to {folder}: {error.strerror}; give another folder"
        ) from error
