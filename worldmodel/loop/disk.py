"""The disk of a run: what it needs at most, and refusing a run that does not fit."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodel.checkpoint import KEPT
from worldmodel.checks import require
from worldmodel.models import WorldModel
from worldmodel.replay import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT)


def checkpoint_bytes(model: WorldModel) -> int:
    """Bytes of a checkpoint: the weights, their average, the acting ones, and two of Adam each."""
    weights: int = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    learned = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return 3 * weights + 2 * learned


def free_bytes(folder: Path) -> tuple[int, Path]:
    """Free bytes of the disk of a folder, and the nearest folder that exists already."""
    existing = folder.absolute()
    while not existing.is_dir():
        existing = existing.parent
    return shutil.disk_usage(existing).free, existing


def refuse_little_disk(run: Path, model: WorldModel) -> None:
    """Raise if the checkpoints do not fit: the kept ones, and the next while it is written."""
    free, place = free_bytes(run)
    there = len([*(run / "checkpoints").glob("[0-9]*")])
    each = checkpoint_bytes(model)
    need = each * max(1, KEPT + 1 - there)
    require(
        free >= need,
        f"run: {run} needs about {megabytes(need)} for its checkpoints ({megabytes(each)} each;"
        f" {KEPT} are kept while the next is written), and {megabytes(free)} are free at {place};"
        " free some of that disk, or choose a folder on another with --run",
    )


def disk_line(run: Path, model: WorldModel, row_bytes: int, rows: int) -> str:
    """A line that says what the run needs at most, and what is free."""
    checkpoints = (KEPT + 1) * checkpoint_bytes(model)
    free, _ = free_bytes(run)
    return (
        f"disk: up to {megabytes(row_bytes * rows)} of rows, {megabytes(checkpoints)} of"
        f" checkpoints; {megabytes(free)} are free"
    )


@contextmanager
def full_disk_explained(run: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that names the run and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        free, place = free_bytes(run)
        raise DiskFullError(
            f"run: the disk of {run} is full ({megabytes(free)} are free at {place}); free some of"
            " it, then the same call resumes the run from its last checkpoint"
        ) from error


def megabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
