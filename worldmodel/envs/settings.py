"""Settings of an environment: camera, image, action repeat, renderer and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from worldmodel.checks import at_least, between, require
from worldmodel.images import Fit


@dataclass(frozen=True)
class EnvSettings:
    """Camera, image, action repeat, renderer and vectors of a task."""

    camera: Annotated[int, at_least(0)] = 0
    # Several cameras of a task of dm_control, joined in the channel axis, as 0,1; empty: only the
    # one of ``camera``.
    cameras: tuple[int, ...] = ()
    image_size: Annotated[int, at_least(8)] = 64
    # How images of another shape become squares of image_size: stretch shows all of the image,
    # crop the square in its middle, pad adds black bars.
    fit: Fit = "stretch"
    # None: the task's own (`worldmodel tasks` lists them).
    action_repeat: Annotated[int | None, at_least(1)] = None
    frames: Annotated[int, at_least(1)] = 1  # images stacked in the channel axis
    renderer: Literal["auto", "warp", "gl"] = "auto"
    samples: Annotated[int, between(1, 8)] = 1  # warp: n means n x n rays a pixel
    vectors: bool = False  # rows hold the simulator's state as vectors, besides the image

    def check(self, path: str) -> None:
        several = self.cameras
        require(
            len(set(several)) == len(several) and all(number >= 0 for number in several),
            f"{path}.cameras: expected different numbers from 0 on, such as 0,1; got"
            f" {','.join(map(str, several))}",
        )
        require(
            not several or self.camera == 0,
            f"{path}.camera: {path}.cameras names all cameras; leave {path}.camera out",
        )
