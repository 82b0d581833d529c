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
    """The number of the simulator's camera that draws the images."""
    cameras: tuple[int, ...] = ()
    """Several cameras of a task of dm_control, as 0,1: their images are joined in the channel axis.
    Empty: only the one of `camera`."""
    image_size: Annotated[int, at_least(8)] = 64
    """Side of the square images in pixels. Larger: small things become visible, and everything is
    slower."""
    fit: Fit = "stretch"
    """How images of another shape become squares of image_size: stretch shows all of the image,
    crop the square in its middle, pad adds black bars."""
    action_repeat: Annotated[int | None, at_least(1)] = None
    """Simulator steps that one action lasts. Larger: fewer decisions, and coarser ones. none: the
    task's own, which `worldmodel tasks` lists."""
    frames: Annotated[int, at_least(1)] = 1
    """How many of the newest images are stacked into one. Larger: one stacked image shows
    motion."""
    renderer: Literal["auto", "warp", "gl"] = "auto"
    """What draws the images: warp needs no OpenGL, gl is dm_control's OpenGL, auto takes warp if it
    can draw the task here."""
    samples: Annotated[int, between(1, 8)] = 1
    """warp: n means n x n rays for each pixel. Larger: smoother edges, and slower drawing."""
    vectors: bool = False
    """Whether rows hold the simulator's state as vectors too, besides the image: the model reads
    and predicts them."""

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
