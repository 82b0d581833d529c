"""The last few images as one, stacked in the channel axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ImageStack:
    """Remembers the last ``frames`` images, oldest first; the first image fills it."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._images: list[NDArray[np.uint8]] = []

    def start(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._images = [image] * self._frames
        return self._stacked()

    def push(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._images = [*self._images[1:], image]
        return self._stacked()

    def _stacked(self) -> NDArray[np.uint8]:
        """[H, W, frames * 3]"""
        return self._images[0] if self._frames == 1 else np.concatenate(self._images, -1)
