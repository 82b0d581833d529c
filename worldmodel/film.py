"""Images in a row as moving pictures: mp4 or GIF, written beside their place and renamed.

A GIF needs nothing but imageio; an mp4 also needs imageio-ffmpeg, which brings its own ffmpeg.
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
GAP = 2  # pixels between two films


def best_format() -> str:
    """The ending of the smallest file that can be written here."""
    return ".gif" if importlib.util.find_spec("imageio_ffmpeg") is None else ".mp4"


def side_by_side(films: Sequence[Images], most_images: int | None = None) -> Images:
    """Of each [T, H, W, C] one [T, H, W', 3], as long as the longest; the others stay at their end.

    ``most_images``: of a long one, so many, evenly over it. Of stacked images the newest.
    """
    longest = max(map(len, films))
    rows = np.arange(longest)
    if most_images is not None and most_images < longest:
        rows = np.linspace(0, longest - 1, most_images).round().astype(int)
    columns: list[Images] = []
    for film in films:
        images = film[np.minimum(rows, len(film) - 1)][..., -3:]
        columns += [images, np.zeros((len(rows), images.shape[1], GAP, 3), np.uint8)]
    return np.concatenate(columns[:-1], axis=2)


def enlarge(images: Images, times: int) -> Images:
    """[T, H, W, 3] -> [T, times * H, times * W, 3]: every pixel a square"""
    return images.repeat(times, axis=1).repeat(times, axis=2)


def write_film(path: Path, images: Images, images_per_s: float) -> None:
    """[T, H, W, 3] to ``path``, whose ending says the format."""
    import imageio.v2 as imageio  # only films need it

    how: dict[str, Any] = {"fps": images_per_s, "macro_block_size": 2}
    if path.suffix == ".gif":
        how = {"duration": 1000 / images_per_s, "loop": 0}
    else:  # of even size
        images = np.pad(images, [(0, 0), *((0, side % 2) for side in images.shape[1:3]), (0, 0)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as unfinished:
        imageio.mimwrite(unfinished, list(images), **how)
