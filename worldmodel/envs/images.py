"""Images of an environment: each row's are fitted, joined, and stacked with the last few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.settings import EnvSettings
from worldmodel.images import Shape, by_camera, fitted, join


class CameraImages:
    """Makes the image of a row from those of its cameras; it remembers the last few.

    Without ``settings`` an image keeps its shape, and there is no stack.
    """

    def __init__(self, settings: EnvSettings | None) -> None:
        self._settings = settings
        self._frames = 1 if settings is None else settings.frames
        self._stack: list[NDArray[np.uint8]] = []  # oldest first
        self.cameras: dict[str, Shape] = {}  # shapes as they came, by name

    def start(self, given: Any) -> NDArray[np.uint8]:
        """[H, W, frames * C]: the first image of an episode fills the stack."""
        self._stack = [self._joined(given)] * self._frames
        return self._stacked()

    def at_rest(self, given: Any) -> NDArray[np.uint8]:
        """[H, W, frames * C]: an image that does not change, outside of the episode."""
        return np.concatenate([self._joined(given)] * self._frames, -1)

    def push(self, given: Any) -> NDArray[np.uint8]:
        """[H, W, frames * C]: the newest image is the last."""
        self._stack = [*self._stack[1:], self._joined(given)]
        return self._stacked()

    def _stacked(self) -> NDArray[np.uint8]:
        return self._stack[0] if self._frames == 1 else np.concatenate(self._stack, -1)

    def _joined(self, given: Any) -> NDArray[np.uint8]:
        """[H, W, C] the images of one moment, fitted; raise if a camera's shape changed."""
        images = by_camera(given)
        shapes: dict[str, Shape] = {name: image.shape for name, image in images.items()}
        self.cameras = self.cameras or shapes
        if shapes != self.cameras:
            raise ValueError(
                f"image: expected {_said(self.cameras)} as before, got {_said(shapes)}"
            )
        if self._settings is None:
            if len({shape[:2] for shape in shapes.values()}) > 1:
                raise ValueError(
                    f"image: cameras of different shapes, {_said(shapes)}, need settings; type:"
                    " env = worldmodel.envs.adopt(env, worldmodel.envs.EnvSettings())"
                )
            return join([image.copy() for image in images.values()])
        size, fit = self._settings.image_size, self._settings.fit
        return join([fitted(image, size, fit) for image in images.values()])


def _said(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
