"""Settings of an environment: camera, image, action repeat, renderer and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from worldmodel.checks import at_least, between


@dataclass(frozen=True)
class EnvSettings:
    """Camera, image, action repeat, renderer and vectors of a task."""

    camera: Annotated[int, at_least(0)] = 0
    image_size: Annotated[int, at_least(8)] = 64
    # None: the task's own (`worldmodel tasks` lists them).
    action_repeat: Annotated[int | None, at_least(1)] = None
    frames: Annotated[int, at_least(1)] = 1  # images stacked in the channel axis
    renderer: Literal["auto", "warp", "gl"] = "auto"
    samples: Annotated[int, between(1, 8)] = 1  # warp: n means n x n rays a pixel
    vectors: bool = False  # rows hold the simulator's state as vectors, besides the image
