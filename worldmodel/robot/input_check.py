"""The check of a controller's inputs: images and vectors that are late, frozen or broken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.images import ALONE, ImageFit
from worldmodel.robot.guard import read_numbers

Fault = Literal[
    "no_image", "bad_image", "frozen_image", "late_image", "bad_vector", "frozen_vector"
]
FAULTS: tuple[Fault, ...] = (
    "no_image", "bad_image", "frozen_image", "late_image", "bad_vector", "frozen_vector"
)  # fmt: skip


@dataclass(frozen=True)
class CheckedInput:
    """A valid image with its vectors, or the fault of the input."""

    taken_at: float  # seconds, by the controller's clock
    image: NDArray[np.uint8] | None = None  # [H, W, C] a copy: cameras reuse their buffer
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [V]
    fault: Fault | None = None
    sentence: str = ""  # what is wrong with an image that cannot be fitted, and what to type


class InputCheck:
    """Checks each input, and remembers the last one to detect late and frozen ones.

    An input is an image, or a dict of the image, or those of several cameras, and vectors. An image
    is *bad* unless it is a uint8 array that can be fitted to the agent's shape. Vectors are *bad*
    unless they are finite numbers, each of its own size, and none is missing or unknown. An input
    is *late* if it was taken more than ``max_age_s`` ago, before the last one, or at an impossible
    time (more than ``max_early_s`` ahead, NaN, not a number). An image or vector is *frozen* if the
    same bytes have repeated for longer than its ``max_still_s``, or were late when they first came.
    The noise of a real camera changes some byte in every image; a joint angle may really stay the
    same.
    """

    def __init__(
        self,
        fitting: ImageFit,
        vector_sizes: Mapping[str, int],
        max_age_s: float,
        max_still_s: Mapping[str, float],
        max_early_s: float,
    ) -> None:
        self.fitting = fitting
        self.vector_sizes = vector_sizes
        self.max_age_s = max_age_s
        self.max_still_s = max_still_s
        self.max_early_s = max_early_s
        self._last: dict[str, NDArray[Any]] = {}
        self._changed_at: dict[str, float] = {}
        self._last_taken_at = -math.inf

    def check(self, given: object, taken_at: float | None, now: float) -> CheckedInput:
        """Check an input; ``taken_at`` None means now."""
        try:
            read = self._read(given)
        except ValueError as error:
            return CheckedInput(now, fault="bad_image", sentence=str(error))
        except Exception:  # an unknown object may raise anything
            read = "bad_image"
        if isinstance(read, str):
            return CheckedInput(now, fault=read)
        image, parts = read
        taken = now if taken_at is None else taken_at
        for name, part in parts.items():
            if name not in self._last or not np.array_equal(part, self._last[name]):
                self._last[name] = np.array(part)
                # if bytes that were late repeat without a time, they still count as that old
                self._changed_at[name] = taken if taken < now - self.max_age_s else now
        if not max(now - self.max_age_s, self._last_taken_at) <= taken <= now + self.max_early_s:
            return CheckedInput(now, fault="late_image")
        for name in parts:
            is_vector = name in self.vector_sizes
            if now - self._changed_at[name] > self.max_still_s[name if is_vector else ALONE]:
                return CheckedInput(now, fault="frozen_vector" if is_vector else "frozen_image")
        self._last_taken_at = taken
        vectors = {name: self._last[name] for name in self.vector_sizes}
        return CheckedInput(taken, image, vectors)

    def _read(self, given: object) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]] | Fault:
        """The fitted image; and the images as they came, by camera, with the vectors.

        Raise ``ValueError``, with the sentence of ``agent.observe``, if an image cannot be fitted.
        """
        parts = given if isinstance(given, Mapping) else {ALONE: given}
        cameras = self.fitting.shapes.keys()
        names = cameras if cameras & parts.keys() else {ALONE}
        read: dict[str, Any] = {name: parts.get(name) for name in names}
        if any(image is None for image in read.values()):
            return "no_image"
        image = np.array(self.fitting(read if len(read) > 1 else read[next(iter(names))]))
        for name, size in self.vector_sizes.items():
            read[name] = read_numbers(parts.get(name), size, np.float32)
            if read[name] is None:
                return "bad_vector"
        return (image, read) if len(parts) == len(read) else "bad_vector"
