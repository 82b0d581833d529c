"""Which of what the camera and the other sensors gave may be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.robot.guard import read_numbers

Fault = Literal[
    "no_image", "bad_image", "frozen_image", "late_image", "bad_vector", "frozen_vector"
]
FAULTS: tuple[Fault, ...] = (
    "no_image", "bad_image", "frozen_image", "late_image", "bad_vector", "frozen_vector"
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """An image of our own with its vectors, or what was wrong with those that came."""

    taken_at: float  # seconds, by the controller's clock
    image: NDArray[np.uint8] | None = None  # [H, W, C] a copy: cameras fill their buffer again
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [V]
    fault: Fault | None = None


class Senses:
    """Remembers what was sensed last, to know what is late or frozen.

    What comes is an image, or a dict of the image and the vectors beside it. An image is *bad*
    unless it is a uint8 array of the agent's shape; vectors are, unless they are finite numbers,
    each of its own size, and none is missing or unknown. All are *late* if taken more than
    ``max_age_s`` ago, before the last ones, or at no time that can be (in more than
    ``max_early_s``, NaN, not a number). Each is *frozen* once the very same bytes have been coming
    for longer than its ``max_still_s``, or came late at first. A real camera's noise changes some
    byte in every image; a joint's counter may truly stand still.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        vector_sizes: Mapping[str, int],
        max_age_s: float,
        max_still_s: Mapping[str, float],
        max_early_s: float,
    ) -> None:
        self.image_shape = image_shape
        self.vector_sizes = vector_sizes
        self.max_age_s = max_age_s
        self.max_still_s = max_still_s
        self.max_early_s = max_early_s
        self._last: dict[str, NDArray[Any]] = {}
        self._changed_at: dict[str, float] = {}
        self._last_taken_at = -math.inf

    def look(self, sensed: object, taken_at: float | None, now: float) -> Seen:
        try:
            read = self._read(sensed)
        except Exception:  # whatever a stranger's object does when it is looked at
            read = "bad_image"
        if isinstance(read, str):
            return Seen(now, fault=read)
        taken = now if taken_at is None else taken_at
        for name, part in read.items():
            if name not in self._last or not np.array_equal(part, self._last[name]):
                self._last[name] = np.array(part)
                # bytes that came late are as old when they come again and nobody says how old
                self._changed_at[name] = taken if taken < now - self.max_age_s else now
        if not max(now - self.max_age_s, self._last_taken_at) <= taken <= now + self.max_early_s:
            return Seen(now, fault="late_image")
        for name, changed_at in self._changed_at.items():
            if now - changed_at > self.max_still_s[name]:
                return Seen(now, fault="frozen_image" if name == "image" else "frozen_vector")
        self._last_taken_at = taken
        vectors = {name: self._last[name] for name in self.vector_sizes}
        return Seen(taken, self._last["image"], vectors)

    def _read(self, sensed: object) -> dict[str, NDArray[Any]] | Fault:
        parts = sensed if isinstance(sensed, Mapping) else {"image": sensed}
        image = parts.get("image")
        if image is None:
            return "no_image"
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            return "bad_image"
        if image.shape != self.image_shape:
            return "bad_image"
        read: dict[str, NDArray[Any]] = {"image": np.asarray(image)}
        for name, size in self.vector_sizes.items():
            vector = read_numbers(parts.get(name), size, np.float32)
            if vector is None:
                return "bad_vector"
            read[name] = vector
        return read if len(parts) == len(read) else "bad_vector"
