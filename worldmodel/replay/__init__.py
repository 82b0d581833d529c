"""Replay: episodes on disk and in memory, and the batches of windows drawn from them.

The newest episodes are in memory too, as many as the budget allows, and batches are drawn from
these. A draw depends on the episodes, the generator and, with a tournament, on the priorities
only, so a folder that is opened again gives the same batches as if it had never been closed::

    replay = Replay(run / "replay", batch=16, length=32, memory_bytes=4 * 10**9)
    replay.add(episode)
    batch = replay.sample(generator)
    replay.learned_from(batch.window, priority)
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from worldmodel.checks import ConfigError
from worldmodel.files import remove, sync_folder, unfinished
from worldmodel.replay.files import (
    ARCHIVE_BYTES,
    BrokenEpisodeError,
    Count,
    DiskFullError,
    bytes_per_row,
    check_episode,
    count_episode,
    episode_path,
    numbers_in,
    read_episode,
    store_episode,
    write_episode,
)
from worldmodel.replay.memory import Memory
from worldmodel.replay.priorities import Priorities
from worldmodel.replay.windows import Buffers, cut
from worldmodel.structs import Batch, Episode

__all__ = [
    "ARCHIVE_BYTES",
    "BrokenEpisodeError",
    "DiskFullError",
    "Replay",
    "bytes_per_row",
    "check_episode",
    "cut",
    "read_episode",
    "write_episode",
]

logger = logging.getLogger("worldmodel")


class Replay:
    """All episodes of a run.

    ``folder``: the folder of their files; with None they are in memory only.
    ``batch``, ``length``: windows in a batch, rows in a window.
    ``memory_bytes``: the oldest episodes leave memory, never the disk, beyond this.
    ``disk_share``: the share of the free disk space that the run may use.
    ``tournament``: windows drawn for each one in a batch; the one of the highest priority is taken.
    ``read_only``: do not create, change or remove files.

    A batch's images are in a reused buffer (``windows.Buffers``).
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        batch: int,
        length: int,
        memory_bytes: int,
        disk_share: float = 1.0,
        tournament: int = 1,
        read_only: bool = False,
    ) -> None:
        self.folder = folder
        self.batch = batch
        self.length = length
        self.disk_share = disk_share
        self.tournament = tournament
        self.read_only = read_only
        self.priorities = Priorities()
        self.broken: list[str] = []  # a message for each skipped file
        self.episodes = 0  # added so far, broken ones included; also the number of the next
        self._counts: dict[int, Count] = {}  # of every complete episode, by rising number
        self._memory = Memory(memory_bytes, length)
        self._buffers = Buffers()
        if folder is not None:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._count_files(folder)
            self._memory.recall(self._episodes_before_memory(folder))
            self._follow_memory()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        read_only: bool,
        batch: int = 1,
        length: int = 1,
        memory_bytes: int = sys.maxsize,
        tournament: int = 1,
    ) -> Replay:
        """Open a folder that already holds episodes."""
        if not folder.is_dir() or not numbers_in(folder):
            raise ConfigError(f"replay: {folder} holds no episode such as 000000.npz")
        return cls(
            folder,
            batch=batch,
            length=length,
            memory_bytes=memory_bytes,
            tournament=tournament,
            read_only=read_only,
        )

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self._counts.values())

    @property
    def env_steps(self) -> int:
        return sum(count.env_steps for count in self._counts.values())

    @property
    def disk_bytes(self) -> int:
        return sum(count.disk_bytes for count in self._counts.values())

    @property
    def episodes_in_memory(self) -> int:
        return len(self._memory)

    def add(self, episode: Episode) -> None:
        """Write the episode to disk, then add it to memory.

        An error leaves the replay unchanged.
        """
        self._refuse_if_read_only()
        check_episode(episode)
        self._memory.check_fit(episode, "the episode")
        disk_bytes = 0
        if self.folder is not None:
            used = self.disk_bytes
            disk_bytes = store_episode(
                self.folder, self.episodes, episode, used=used, disk_share=self.disk_share
            )
        self._counts[self.episodes] = Count(len(episode), episode.total_env_steps, disk_bytes)
        self._memory.add(self.episodes, episode)
        self.episodes += 1
        self._follow_memory()

    def sample(self, generator: np.random.Generator, first_episode: int = 0) -> Batch:
        """Draw a batch of windows uniformly from the episodes in memory.

        ``first_episode``: only from those with this number and later.

        With a tournament, each is the one of the highest priority among a few draws. No window
        crosses episodes. An episode shorter than a window is one window, padded at its end.
        """
        self._refuse_if_empty()
        memory = self._memory
        begin = memory.begin_of(first_episode)
        drawn = generator.integers(begin, memory.ends[-1], size=(self.tournament, self.batch))
        which, begins = memory.find(drawn)  # [D, B] episodes, [D, B] rows
        best = self.priorities.best(memory.numbers[which], begins, memory.lengths[which])[None]
        which, begins = (np.take_along_axis(each, best, 0)[0] for each in (which, begins))  # [B]
        shape = (self.batch, self.length, *memory.episodes[-1].image.shape[1:])
        return memory.cut(which, begins, self.length, self._buffers.borrow(shape))

    def newest(self, count: int) -> Batch:
        """The last ``count`` episodes in memory as a batch, padded to the longest of them."""
        self._refuse_if_empty()
        which = np.arange(len(self._memory))[-count:]
        rows = max(len(self._memory.episodes[place]) for place in which)
        return self._memory.cut(which, np.zeros_like(which), rows)

    def images(self, limit: int) -> Tensor:
        """[M, H, W, C] at most so many images in memory, evenly spread over the rows."""
        return self._memory.images(limit)

    def learned_from(self, windows: Tensor, priority: Tensor) -> None:
        """Store the priorities [B, T] of the rows of a batch, whose ``window`` is [B, 2]."""
        self.priorities.update(windows, priority)

    def state(self) -> dict[str, Tensor]:
        """The priorities, for a checkpoint; episodes are in their files."""
        return self.priorities.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.priorities.restore(state)

    def keep_first(self, episodes: int) -> None:
        """Remove all but the first ``episodes``, from the disk too: the first step of a resume."""
        self._refuse_if_read_only()
        self._counts = {n: count for n, count in self._counts.items() if n < episodes}
        self._memory.keep_before(episodes)
        if self.folder is None:
            self.episodes = min(episodes, self.episodes)
        else:
            remove(unfinished(episode_path(self.folder, self.episodes)))  # a kill may leave one
            for number in reversed(numbers_in(self.folder)):  # from the end, so no gap arises
                if number >= episodes:
                    episode_path(self.folder, number).unlink(missing_ok=True)
            sync_folder(self.folder)
            self._skip_missing(self.folder, self.episodes, episodes)
            self._memory.recall(self._episodes_before_memory(self.folder))
            self.episodes = episodes
        self._follow_memory()

    def _count_files(self, folder: Path) -> None:
        for number in numbers_in(folder):
            self._skip_missing(folder, self.episodes, number)
            try:
                self._counts[number] = count_episode(episode_path(folder, number))
            except BrokenEpisodeError as error:
                self._skip(str(error))
            self.episodes = number + 1

    def _episodes_before_memory(self, folder: Path) -> Iterator[tuple[int, Episode]]:
        """Read episodes older than those in memory from disk, the newest first."""
        oldest = self._memory.oldest
        for number in reversed([n for n in self._counts if oldest is None or n < oldest]):
            path = episode_path(folder, number)
            try:
                episode = read_episode(path)
            except BrokenEpisodeError as error:
                self._skip(str(error))
                del self._counts[number]
                continue
            self._memory.check_fit(episode, str(path))
            yield number, episode

    def _follow_memory(self) -> None:
        """Keep the priorities of the episodes in memory, and no others."""
        memory = self._memory
        lengths = [len(episode) for episode in memory.episodes]
        self.priorities.keep(zip(memory.numbers.tolist(), lengths, strict=True))

    def _skip_missing(self, folder: Path, first: int, end: int) -> None:
        if end > first:
            last = f" to {episode_path(folder, end - 1).name}" if end - first > 1 else ""
            self._skip(f"{episode_path(folder, first)}{last}: missing")

    def _skip(self, message: str) -> None:
        logger.warning("%s; it is skipped", message)
        self.broken.append(message)

    def _refuse_if_empty(self) -> None:
        if not len(self._memory):
            raise RuntimeError("replay: no episode to sample from")

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise RuntimeError(f"replay: {self.folder} was opened to read only")
