"""Files of episodes: one each, lossless.

An episode is one file, such as ``000012.npz``, numbered in the order of arrival. A file appears
only when it is complete, so a kill leaves no partial one, and no file is written twice.
"""

from __future__ import annotations

import errno
import io
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.structs import Episode

# zlib's first level that looks for longer matches. 250 rows of 64x64x3 from dm_control, on one
# core: 11 to 29 ms and 4 to 32 times smaller; level 3 saves at most 5 ms and writes 1.2 to 3.5
# times as much, level 6 saves another tenth of the bytes for up to a third more time.
COMPRESSION = 4
ARCHIVE_BYTES = 2048  # at most, of a file besides its rows
LARGEST_GAP = 1000  # between the numbers of two episodes: some files may get lost, but not more

# dtype and axes of each field of an episode
FIELDS: dict[str, tuple[type[np.generic], str]] = {
    "image": (np.uint8, "THWC"),
    "action": (np.float32, "TA"),
    "reward": (np.float32, "T"),
    "discount": (np.float32, "T"),
    "env_steps": (np.int64, "T"),
}

VECTORS = "vectors."  # prefix of a vector's name in a file


class DiskFullError(RuntimeError):
    """The disk has no room for the next episode; everything before it is safe."""


class BrokenEpisodeError(ValueError):
    """A file does not hold a complete episode; the message names it."""


def bytes_per_row(image_shape: Sequence[int], action_size: int, vector_size: int = 0) -> int:
    """Bytes of a row in memory. On disk it is compressed and takes at most as many."""
    return int(np.prod(image_shape)) + 4 * action_size + 4 * vector_size + 4 + 4 + 8


def write_episode(path: Path, episode: Episode) -> None:
    """Write an episode's file, which appears under ``path`` only when it is complete."""
    check_episode(episode)
    with (
        files.replacing(path) as new,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as box,
    ):
        for name, array in arrays(episode).items():
            member = io.BytesIO()
            whole = np.ascontiguousarray(array)
            np.lib.format.write_array(member, whole, allow_pickle=False)
            box.writestr(f"{name}.npy", member.getbuffer())


def read_episode(path: Path) -> Episode:
    """Read an episode; raise ``BrokenEpisodeError`` if it is not complete."""
    names = _vector_names(path)
    members = _read_members(path, [*FIELDS, *(VECTORS + name for name in names)])
    try:
        vectors = {name: members.pop(VECTORS + name) for name in names}
        episode = Episode(**members, vectors=vectors)
        check_episode(episode)
    except (TypeError, ValueError) as error:
        raise BrokenEpisodeError(f"{path}: not a whole episode: {error}") from error
    return episode


def check_episode(episode: Episode) -> None:
    """Raise if a field has the wrong type, shape or length, or numbers that are not finite."""
    for name, array in arrays(episode).items():
        dtype, axes = FIELDS.get(name, (np.float32, "TV"))
        if array.dtype != dtype:
            raise TypeError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
        if array.ndim != len(axes):
            raise ValueError(f"{name}: expected {list(axes)}, got the shape {list(array.shape)}")
        if len(array) != len(episode.reward) or len(array) == 0:
            raise ValueError(
                f"{name}: expected a row for each of {len(episode.reward)} rewards (at least one),"
                f" got {len(array)}"
            )
        if array.dtype == np.float32 and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise ValueError(f"{name}: expected finite numbers, got {array[row]} in row {row}")


@dataclass(frozen=True)
class Count:
    """The size of one episode. Of episodes too old for memory, only this is read."""

    rows: int
    env_steps: int
    disk_bytes: int = 0


def size(episode: Episode) -> int:
    """Bytes in memory."""
    return sum(array.nbytes for array in arrays(episode).values())


def arrays(episode: Episode) -> dict[str, NDArray[Any]]:
    """The arrays of an episode, named as in its file."""
    vectors = {VECTORS + name: vector for name, vector in episode.vectors.items()}
    return {name: getattr(episode, name) for name in FIELDS} | vectors


def vector_names(named: Iterable[str]) -> str:
    """The vectors among the names in a file, for a message."""
    return ", ".join(name.removeprefix(VECTORS) for name in named if name not in FIELDS) or "none"


def episode_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def numbers_in(folder: Path) -> list[int]:
    """The numbers of the episodes in a folder, in ascending order.

    Raise if there is a large gap: a stray file such as 20261130.npz would become the newest
    episode, and would be deleted when the run resumes.
    """
    stems = (path.stem for path in folder.glob("*.npz"))
    canonical = {stem: int(stem) for stem in stems if re.fullmatch("[0-9]{6,}", stem)}
    numbers = sorted(n for stem, n in canonical.items() if stem == f"{n:06d}")
    for before, after in pairwise(numbers):
        if after - before > LARGEST_GAP:
            raise ConfigError(
                f"replay: {episode_path(folder, after)} is numbered like an episode, but the"
                f" one before it has the number {before}; move it out of the folder"
            )
    return numbers


def count_episode(path: Path) -> Count:
    """Read the size of an episode; raise ``BrokenEpisodeError`` if the file is damaged."""
    env_steps = _read_members(path, ["env_steps"])["env_steps"]
    return Count(len(env_steps), int(env_steps.sum()), path.stat().st_size)


def store_episode(
    folder: Path, number: int, episode: Episode, *, used: int, disk_share: float
) -> int:
    """Write an episode and return the bytes of its file; raise ``DiskFullError`` if it is too big.

    ``used``: bytes of the episodes before. ``disk_share``: the share of the free disk space that
    the run may use; what it uses already counts as free.
    """
    path = episode_path(folder, number)
    if path.exists():
        raise RuntimeError(f"{path}: exists already; does another process use this run?")
    need = size(episode) + ARCHIVE_BYTES
    room = disk_share * (shutil.disk_usage(folder).free + used)
    if used + need > room:
        raise DiskFullError(
            f"{folder}: it holds {used / 1e6:.1f} MB, the next episode needs up to"
            f" {need / 1e6:.1f} MB, and replay.disk_share = {disk_share:g} of the disk's free space"
            f" allows {room / 1e6:.1f} MB; free some of the disk or raise replay.disk_share, then"
            " resume"
        )
    try:
        write_episode(path, episode)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"{folder}: the disk is full; free some of it, then resume"
            ) from error
        raise
    return path.stat().st_size


def _vector_names(path: Path) -> list[str]:
    """Names of the vectors in a file; none if it is no archive, which ``_read_members`` reports."""
    try:
        with zipfile.ZipFile(path) as box:
            members = [name.removesuffix(".npy") for name in box.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
    return [name.removeprefix(VECTORS) for name in members if name.startswith(VECTORS)]


def _read_members(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an episode's file; zipfile checks the checksum of each."""
    try:
        with zipfile.ZipFile(path) as box:
            return {
                name: np.lib.format.read_array(
                    io.BytesIO(box.read(f"{name}.npy")), allow_pickle=False
                )
                for name in names
            }
    except (  # all that zipfile and zlib raise for damaged bytes
        OSError,
        EOFError,
        KeyError,
        ValueError,
        RuntimeError,
        OverflowError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise BrokenEpisodeError(f"{path}: not a whole episode: {error}") from error
