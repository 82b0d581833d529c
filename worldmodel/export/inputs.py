"""Inputs of a runner, checked: every error names the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.export.search import Floats
from worldmodel.images import ALONE, ImageFit

Observation = NDArray[np.uint8] | Mapping[str, NDArray[Any]]
"""An image, or ``{"image": image, "joints": [V], ...}`` for an agent that takes vectors too.

An agent of several cameras takes their images by name: ``{"front": image, "wrist": image, ...}``.
"""


def checked(name: str, numbers: Any, shape: tuple[int, ...]) -> Floats:
    """Convert to float32; raise if the shape differs, or a number is NaN or infinite."""
    array = np.asarray(numbers, np.float32)
    if array.shape != shape:
        raise ValueError(f"{name}: expected float32 {list(shape)}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array.tolist()}")
    return array


def checked_row(
    given: Observation, fitting: ImageFit, vector_sizes: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """The image and the vectors [V], by the names of the graph's inputs.

    An image of another shape is fitted as in training, or refused if it has another aspect.
    """
    row = given if isinstance(given, Mapping) else {ALONE: given}
    images, seen = fitting.split(row, vector_sizes)
    image = fitting(images)
    vectors = {
        f"vectors.{name}": checked(name, seen[name], (size,)) for name, size in vector_sizes.items()
    }
    return {"image": np.ascontiguousarray(image), **vectors}


def checked_delay(delay: NDArray[np.floating] | None, action_size: int) -> Floats:
    """Actions that are already under way: [D, A]"""
    actions = np.zeros((0, action_size), np.float32) if delay is None else np.asarray(delay)
    if actions.ndim != 2 or actions.shape[1] != action_size:
        raise ValueError(f"delay: expected [any, {action_size}], got {list(actions.shape)}")
    return checked("delay", actions, actions.shape)


def checked_noise(about: Mapping[str, Any], verb: str, given: Floats | None) -> Floats | None:
    """As many float32 numbers as the verb draws."""
    count: int = about["noise"][verb]
    if given is not None and (given.dtype != np.float32 or given.shape != (count,)):
        raise ValueError(
            f"noise: expected float32 [{count}], got {given.dtype} {list(given.shape)}"
        )
    return given
