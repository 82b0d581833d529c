"""Memory of a replay: the newest episodes, and the index of their windows."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.replay.files import arrays, size, vector_names
from worldmodel.replay.windows import cut
from worldmodel.structs import Batch, Episode


class Memory:
    """The newest episodes, in at most ``most_bytes``, and their windows of ``length`` rows.

    Windows are numbered through all episodes: those of episode i are ``firsts[i]`` up to, but not
    including, ``ends[i]``. An episode shorter than a window is one window.
    """

    def __init__(self, most_bytes: int, length: int) -> None:
        self.most_bytes = most_bytes
        self.length = length
        self._held: deque[tuple[int, Episode]] = deque()  # in ascending order of their numbers
        self._bytes = 0
        self._index()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def oldest(self) -> int | None:
        """The number of the oldest episode in memory."""
        return self._held[0][0] if self._held else None

    def add(self, number: int, episode: Episode) -> None:
        """Add the newest episode; remove the oldest ones until it fits."""
        self._held.append((number, episode))
        self._bytes += size(episode)
        while self._bytes > self.most_bytes:
            self._bytes -= size(self._held.popleft()[1])
        self._index()

    def recall(self, older: Iterable[tuple[int, Episode]]) -> None:
        """Add episodes older than the oldest, the newest of them first, as long as they fit."""
        for number, episode in older:
            if self._bytes + size(episode) > self.most_bytes:
                break
            self._held.appendleft((number, episode))
            self._bytes += size(episode)
        self._index()

    def keep_before(self, number: int) -> None:
        """Remove the episodes from this number on."""
        while self._held and self._held[-1][0] >= number:
            self._bytes -= size(self._held.pop()[1])
        self._index()

    def begin_of(self, number: int) -> int:
        """The first window of the episodes from this number on; ValueError if there is none."""
        place = int(np.searchsorted(self.numbers, number))
        if place == len(self.numbers):
            raise ValueError(f"replay: expected an episode from number {number} on, got none")
        return int(self.firsts[place])

    def find(self, windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The place in memory of each window's episode, and its first row. Any shape."""
        which = np.searchsorted(self.ends, windows, side="right")
        return which, windows - self.firsts[which]

    def cut(
        self,
        which: NDArray[np.int64],
        begins: NDArray[np.int64],
        rows: int,
        image: NDArray[np.uint8] | None = None,
    ) -> Batch:
        """The windows [B] of episodes, by place, that begin at these rows; see ``windows.cut``."""
        places = list(zip(which.tolist(), begins.tolist(), strict=True))
        window = torch.from_numpy(np.stack([self.numbers[which], begins], 1))
        return dataclasses.replace(cut(self.episodes, places, rows, image), window=window)

    def images(self, limit: int) -> Tensor:
        """[M, H, W, C] at most ``limit`` images, evenly spread over the rows."""
        rows = sum(len(episode) for episode in self.episodes)
        stride = -(-rows // limit)
        begins = np.cumsum([0, *(len(episode) for episode in self.episodes)])
        spread = [
            e.image[-b % stride :: stride] for e, b in zip(self.episodes, begins, strict=False)
        ]
        return torch.from_numpy(np.concatenate(spread))

    def check_fit(self, episode: Episode, name: str) -> None:
        """Raise if the episode is larger than all memory, or its shapes differ from the others'."""
        if size(episode) > self.most_bytes:
            raise ValueError(
                f"replay.memory_gb: {name} needs {size(episode) / 1e9:.3g} GB, more than the"
                f" {self.most_bytes / 1e9:.3g} GB of all; raise replay.memory_gb"
            )
        if not self._held:
            return
        held, new = arrays(self._held[-1][1]), arrays(episode)
        if held.keys() != new.keys():
            raise ValueError(
                f"vectors: expected {vector_names(held)} as in the episodes before, got"
                f" {vector_names(new)} in {name}"
            )
        for field, array in new.items():
            expected, got = held[field].shape[1:], array.shape[1:]
            if expected != got:
                raise ValueError(
                    f"{field}: expected {list(expected)} as in the episodes before, got"
                    f" {list(got)} in {name}"
                )

    def _index(self) -> None:
        self.episodes = [episode for _, episode in self._held]
        self.numbers = np.array([number for number, _ in self._held], np.int64)
        rows = np.array([len(episode) for episode in self.episodes], np.int64)
        self.lengths = np.minimum(rows, self.length)  # of a window of each episode
        windows = np.maximum(1, rows - self.length + 1)
        self.ends = windows.cumsum()
        self.firsts = self.ends - windows
