"""Write images as videos: mp4 or GIF.

A GIF needs only imageio; an mp4 also needs imageio-ffmpeg, which contains its own ffmpeg.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel import files

Images = NDArray[np.uint8]
GAP = 2  # pixels between two videos


def best_format() -> str:
    """The suffix of the format to write: mp4, which is smaller, or GIF without ffmpeg."""
    return ".gif" if importlib.util.find_spec("imageio_ffmpeg") is None else ".mp4"


def side_by_side(videos: Sequence[Images], most_images: int | None = None) -> Images:
    """Join videos [T, H, W, 3] to one [T, H, W', 3]; shorter ones repeat their last image.

    ``most_images``: a longer video is reduced to this many images, evenly spaced.
    """
    longest = max(map(len, videos))
    chosen = np.arange(longest)
    if most_images is not None and most_images < longest:
        chosen = np.linspace(0, longest - 1, most_images).round().astype(int)
    columns: list[Images] = []
    for video in videos:
        images = video[np.minimum(chosen, len(video) - 1)]
        columns += [images, np.zeros((len(chosen), images.shape[1], GAP, 3), np.uint8)]
    return np.concatenate(columns[:-1], axis=2)


def enlarge(images: Images, times: int) -> Images:
    """[T, H, W, 3] -> [T, times * H, times * W, 3]: every pixel becomes a square"""
    return images.repeat(times, axis=1).repeat(times, axis=2)


def write_video(path: Path, images: Images, images_per_s: float) -> None:
    """Write [T, H, W, 3] to ``path``; its suffix gives the format."""
    import imageio.v2 as imageio  # only videos need it

    options: dict[str, Any] = {"fps": images_per_s, "macro_block_size": 2}
    if path.suffix == ".gif":
        options = {"duration": 1000 / images_per_s, "loop": 0}
    else:  # mp4 needs even sides
        images = np.pad(images, [(0, 0), *((0, side % 2) for side in images.shape[1:3]), (0, 0)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as unfinished:
        imageio.mimwrite(unfinished, list(images), **options)
