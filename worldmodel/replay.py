"""Experience waits here: episodes on disk and in memory, and the windows of them that leave.

On disk an episode is one file, ``000012.npz``, numbered in the order of arrival, written beside
its place and renamed: a kill leaves whole files only. Files are never written twice. The newest
episodes stand in memory as well, as many as the budget holds, and batches are drawn from these.
What is drawn depends on the episodes, the generator and, where surprise decides, on what is known
of it, so a folder that is opened again goes on exactly as if it had never been closed::

    replay = Replay(run / "replay", batch=16, length=32, memory_bytes=4 * 10**9)
    replay.add(episode)
    batch = replay.sample(generator)
"""

from __future__ import annotations

import errno
import io
import logging
import shutil
import struct
import weakref
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel import files
from worldmodel.structs import Batch, Episode
from worldmodel.surprise import Surprise

# zlib's first level that looks for longer matches. 250 rows of 64x64x3 from dm_control, on one
# core: 11 to 29 ms and 4 to 32 times smaller; level 3 saves at most 5 ms and writes 1.2 to 3.5
# times as much, level 6 saves another tenth of the bytes for up to a third more time.
COMPRESSION = 4
ARCHIVE_BYTES = 2048  # at most: what a file holds beside the rows

# dtype and axes of each field of an episode
FIELDS: dict[str, tuple[type[np.generic], str]] = {
    "image": (np.uint8, "THWC"),
    "action": (np.float32, "TA"),
    "reward": (np.float32, "T"),
    "discount": (np.float32, "T"),
    "env_steps": (np.int64, "T"),
}

VECTORS = "vectors."  # before the name of each, in a file

logger = logging.getLogger("worldmodel")


class DiskFullError(RuntimeError):
    """There is no room for the next episode; everything before it is safe."""


class BrokenEpisodeError(ValueError):
    """A file that holds no whole episode; the message names it."""


def bytes_per_row(image_shape: Sequence[int], action_size: int, vector_size: int = 0) -> int:
    """What a row needs in memory, and at most on disk, where it is compressed."""
    return int(np.prod(image_shape)) + 4 * action_size + 4 * vector_size + 4 + 4 + 8


def write_episode(path: Path, episode: Episode) -> None:
    """Write an episode's file; ``path`` is whole whenever it exists."""
    check_episode(episode)
    with (
        files.replacing(path) as new,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as box,
    ):
        for name, array in _arrays(episode).items():
            member = io.BytesIO()
            whole = np.ascontiguousarray(array)
            np.lib.format.write_array(member, whole, allow_pickle=False)
            box.writestr(f"{name}.npy", member.getbuffer())


def read_episode(path: Path) -> Episode:
    """The whole episode, or ``BrokenEpisodeError``."""
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
    """A complaint with the name of the field, at the door."""
    for name, array in _arrays(episode).items():
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


class Replay:
    """All episodes of a run.

    ``folder``: where they are kept; None keeps them in memory only.
    ``batch``, ``length``: windows in a batch, rows in a window.
    ``memory_bytes``: the oldest episodes leave memory, never the disk, beyond this.
    ``disk_share``: of the disk space that was free to the run, what it may take.
    ``draws``: windows drawn for each that leaves, which is the one that surprised most.

    A batch borrows a reused buffer for its images, since fresh pages cost more than the copy
    (64 windows of 50 rows of 64x64x3: 2 ms reused, 6 ms fresh). The buffer comes back only when
    nothing refers to the batch's images any more, views and slices included, so a batch may be
    kept as long as anybody likes.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        batch: int,
        length: int,
        memory_bytes: int,
        disk_share: float = 1.0,
        draws: int = 1,
    ) -> None:
        self.folder = folder
        self.batch = batch
        self.length = length
        self.memory_bytes = memory_bytes
        self.disk_share = disk_share
        self.draws = draws
        self.surprise = Surprise()
        self.broken: list[str] = []  # one message for each file that was skipped
        self._counts: list[_Count] = []  # of every episode ever added, by number
        self._held: deque[tuple[int, Episode]] = deque()  # in memory, by rising number
        self._held_bytes = 0
        self._spare: deque[NDArray[np.uint8]] = deque(maxlen=2)  # buffers nobody looks at
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._count_files(folder)
            self._recall()
        self._index()

    @property
    def episodes(self) -> int:
        """Ever added, broken ones included: the number of the next."""
        return len(self._counts)

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self._counts)

    @property
    def env_steps(self) -> int:
        return sum(count.env_steps for count in self._counts)

    @property
    def disk_bytes(self) -> int:
        return sum(count.disk_bytes for count in self._counts)

    @property
    def episodes_in_memory(self) -> int:
        return len(self._held)

    def add(self, episode: Episode) -> None:
        """To disk at once, then to memory. When it fails, nothing has changed."""
        check_episode(episode)
        self._check_fit(episode, "the episode")
        number = self.episodes
        disk_bytes = 0
        if self.folder is not None:
            path = _path(self.folder, number)
            if path.exists():
                raise RuntimeError(f"{path}: exists already; does another process use this run?")
            self._check_disk(self.folder, _size(episode) + ARCHIVE_BYTES)
            try:
                write_episode(path, episode)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFullError(
                        f"{self.folder}: the disk is full; free some of it, then resume"
                    ) from error
                raise
            disk_bytes = path.stat().st_size
        self._counts.append(_Count(len(episode), episode.total_env_steps, disk_bytes))
        self._held.append((number, episode))
        self._held_bytes += _size(episode)
        while self._held_bytes > self.memory_bytes:
            self._held_bytes -= _size(self._held.popleft()[1])
        self._index()

    def sample(self, generator: np.random.Generator) -> Batch:
        """Uniform over the windows of the episodes in memory, or the most surprising of a few.

        No window crosses episodes. An episode shorter than a window is one window, padded at its
        end.
        """
        if not self._held:
            raise RuntimeError("replay: no episode to sample from")
        drawn = generator.integers(self._ends[-1], size=(self.draws, self.batch))
        picks = self._elect(drawn)  # [B] of all windows
        which = np.searchsorted(self._ends, picks, side="right")  # [B] episodes
        begins = picks - self._firsts[which]  # [B] rows
        episode = self._held[-1][1]
        shape = (self.batch, self.length)
        image = self._borrow((*shape, *episode.image.shape[1:]))  # [B, T, H, W, C]
        action = np.zeros((*shape, *episode.action.shape[1:]), np.float32)  # [B, T, A]
        reward = np.zeros(shape, np.float32)
        discount = np.ones(shape, np.float32)
        valid = np.zeros(shape, np.bool_)
        vectors = {
            name: np.zeros((*shape, *felt.shape[1:]), np.float32)
            for name, felt in episode.vectors.items()
        }  # [B, T, V]
        for row, (index, begin) in enumerate(zip(which.tolist(), begins.tolist(), strict=True)):
            episode = self._episodes[index]
            window = slice(begin, begin + self.length)
            rows = min(self.length, len(episode))
            image[row, :rows] = episode.image[window]
            image[row, rows:] = 0
            action[row, :rows] = episode.action[window]
            reward[row, :rows] = episode.reward[window]
            discount[row, :rows] = episode.discount[window]
            valid[row, :rows] = True
            for name, felt in vectors.items():
                felt[row, :rows] = episode.vectors[name][window]
        return Batch(
            image=torch.from_numpy(image),
            action=torch.from_numpy(action),
            reward=torch.from_numpy(reward),
            discount=torch.from_numpy(discount),
            valid=torch.from_numpy(valid),
            vectors={name: torch.from_numpy(felt) for name, felt in vectors.items()},
            window=torch.from_numpy(np.stack([self._numbers[which], begins], 1)),
        )

    def _elect(self, picks: NDArray[np.int64]) -> NDArray[np.int64]:
        """[D, B] -> [B]: of each column the window that surprised most, the first of equals."""
        which = np.searchsorted(self._ends, picks, side="right")  # [D, B]
        surprise = np.zeros(picks.shape)
        for place, index in np.ndenumerate(which):
            begin = int(picks[place] - self._firsts[index])
            rows = min(self.length, len(self._episodes[index]))
            surprise[place] = self.surprise.of(int(self._numbers[index]), begin, rows)
        best: NDArray[np.int64] = np.take_along_axis(picks, surprise.argmax(0)[None], 0)[0]
        return best

    def images(self, limit: int) -> Tensor:
        """[M, H, W, C] at most so many images in memory, evenly spread over the rows."""
        rows = sum(len(episode) for episode in self._episodes)
        stride = -(-rows // limit)
        begins = np.cumsum([0, *(len(episode) for episode in self._episodes)])
        spread = [
            e.image[-b % stride :: stride] for e, b in zip(self._episodes, begins, strict=False)
        ]
        return torch.from_numpy(np.concatenate(spread))

    def keep_first(self, episodes: int) -> None:
        """Forget, on disk too, what came after the first so many: a resume begins with this."""
        if self.folder is not None:
            files.remove(files.unfinished(_path(self.folder, self.episodes)))  # left by a kill
            for number in reversed(range(episodes, self.episodes)):  # downwards: never a gap
                _path(self.folder, number).unlink(missing_ok=True)
        del self._counts[episodes:]
        while self._held and self._held[-1][0] >= episodes:
            self._held_bytes -= _size(self._held.pop()[1])
        if self.folder is not None:
            files.sync_folder(self.folder)
            while self.episodes < episodes:
                self._skip(f"{_path(self.folder, self.episodes)}: missing")
                self._counts.append(_Count(whole=False))
            self._recall()
        self._index()

    def _count_files(self, folder: Path) -> None:
        """Every episode's size; of old ones nothing more is ever read."""
        numbers = [int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()]
        for number in range(max(numbers, default=-1) + 1):
            path = _path(folder, number)
            try:
                if not path.exists():
                    raise BrokenEpisodeError(f"{path}: missing")
                env_steps = _read_members(path, ["env_steps"])["env_steps"]
                count = _Count(len(env_steps), int(env_steps.sum()), path.stat().st_size)
            except BrokenEpisodeError as error:
                self._skip(str(error))
                count = _Count(whole=False)
            self._counts.append(count)

    def _recall(self) -> None:
        """From disk to memory, the newest first, until the budget is full."""
        assert self.folder is not None
        oldest = self._held[0][0] if self._held else self.episodes
        for number in reversed(range(oldest)):
            if not self._counts[number].whole:
                continue
            path = _path(self.folder, number)
            try:
                episode = read_episode(path)
            except BrokenEpisodeError as error:
                self._skip(str(error))
                self._counts[number] = _Count(whole=False)
                continue
            self._check_fit(episode, str(path))
            if self._held_bytes + _size(episode) > self.memory_bytes:
                break
            self._held.appendleft((number, episode))
            self._held_bytes += _size(episode)

    def _index(self) -> None:
        """Where each episode's windows stand in the row of all windows."""
        self._episodes = [episode for _, episode in self._held]
        self._numbers = np.array([number for number, _ in self._held], np.int64)
        self.surprise.keep((number, len(episode)) for number, episode in self._held)
        windows = np.array([max(1, len(e) - self.length + 1) for e in self._episodes], np.int64)
        self._ends = windows.cumsum()
        self._firsts = self._ends - windows

    def _skip(self, message: str) -> None:
        logger.warning("%s; it is skipped", message)
        self.broken.append(message)

    def _borrow(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A buffer that returns to the spare ones when its last reader is gone.

        The tensor refers to ``lent``, not to the buffer below it, and every view of the tensor
        refers to the tensor's storage: ``lent`` dies with the last of them, in whatever thread.
        """
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = np.empty(shape, np.uint8)
        if buffer.shape != shape:
            buffer = np.empty(shape, np.uint8)
        lent = buffer.view()
        weakref.finalize(lent, self._spare.append, buffer).atexit = False
        return lent

    def _check_fit(self, episode: Episode, name: str) -> None:
        if _size(episode) > self.memory_bytes:
            raise ValueError(
                f"replay.memory_gb: {name} needs {_size(episode) / 1e9:.3g} GB, more than the"
                f" {self.memory_bytes / 1e9:.3g} GB of all; raise replay.memory_gb"
            )
        if not self._held:
            return
        held, new = _arrays(self._held[-1][1]), _arrays(episode)
        if held.keys() != new.keys():
            raise ValueError(
                f"vectors: expected {_named(held)} as in the episodes before, got {_named(new)}"
                f" in {name}"
            )
        for field, array in new.items():
            expected, got = held[field].shape[1:], array.shape[1:]
            if expected != got:
                raise ValueError(
                    f"{field}: expected {list(expected)} as in the episodes before, got"
                    f" {list(got)} in {name}"
                )

    def _check_disk(self, folder: Path, need: int) -> None:
        used = self.disk_bytes
        room = self.disk_share * (shutil.disk_usage(folder).free + used)
        if used + need > room:
            raise DiskFullError(
                f"{folder}: it holds {used / 1e6:.1f} MB, the next episode needs up to"
                f" {need / 1e6:.1f} MB, and replay.disk_share = {self.disk_share:g} of the disk's"
                f" free space allows {room / 1e6:.1f} MB; free some of the disk or raise"
                " replay.disk_share, then resume"
            )


@dataclass(frozen=True)
class _Count:
    rows: int = 0
    env_steps: int = 0
    disk_bytes: int = 0
    whole: bool = True


def _size(episode: Episode) -> int:
    return sum(array.nbytes for array in _arrays(episode).values())


def _arrays(episode: Episode) -> dict[str, NDArray[Any]]:
    """As its file names them."""
    vectors = {VECTORS + name: felt for name, felt in episode.vectors.items()}
    return {name: getattr(episode, name) for name in FIELDS} | vectors


def _named(arrays: Mapping[str, NDArray[Any]]) -> str:
    names = [name.removeprefix(VECTORS) for name in arrays if name not in FIELDS]
    return ", ".join(names) or "none"


def _vector_names(path: Path) -> list[str]:
    """Of the vectors that a file holds; what is no archive holds none, and is complained of."""
    try:
        with zipfile.ZipFile(path) as box:
            members = [name.removesuffix(".npy") for name in box.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
    return [name.removeprefix(VECTORS) for name in members if name.startswith(VECTORS)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _read_members(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an episode's file, each one's checksum tested before it is believed."""
    try:
        with zipfile.ZipFile(path) as box:
            return {
                name: np.lib.format.read_array(
                    io.BytesIO(box.read(f"{name}.npy")), allow_pickle=False
                )
                for name in names
            }
    except (  # all that zipfile says of damaged bytes
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
