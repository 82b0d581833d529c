"""Images of a camera: the size that networks take, resizing, and stacking the last few."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE_UNIT = 16  # encoder and decoder halve an image four times
USUAL_SIDE = 64  # every encoder takes this side


def wrong_size(shape: Sequence[int]) -> str:
    """A complaint, with the line to type, about the shape [H, W, C]; empty if networks take it."""
    height, width, channels = shape
    if height == width and height > 0 and height % SIDE_UNIT == 0:
        return ""
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    part = f"image[{top}:{top + least}, {left}:{left + least}]" if height != width else "image"
    return (
        f"image: expected a square whose side is a multiple of {SIDE_UNIT}, got"
        f" {[height, width, channels]}; type: image = worldmodel.envs.resize({part}, {USUAL_SIDE})"
    )


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W, C] -> [size, size, C]: each new pixel is the mean of the area that it covers.

    The result is always a copy, because a camera may write into its own array again.
    """
    height, width, channels = image.shape
    if height == width == size:
        return image.copy()
    rows = _shares(height, size) @ image.reshape(height, -1).astype(np.float32)  # [size, W * C]
    mean = _shares(width, size) @ rows.reshape(size, width, channels)  # [size, size, C]
    return (mean + 0.5).astype(np.uint8)


@functools.cache
def _shares(pixels: int, size: int) -> NDArray[np.float32]:
    """[size, pixels] the weight of each old pixel in each new one; each line sums to one."""
    edges = np.arange(size + 1) * pixels / size
    begin, end = edges[:-1, None], edges[1:, None]
    old = np.arange(pixels)
    overlap = np.minimum(end, old + 1) - np.maximum(begin, old)
    return (overlap.clip(0) * size / pixels).astype(np.float32)


class ImageStack:
    """The last ``frames`` images, oldest first; the first image of an episode fills it."""

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
