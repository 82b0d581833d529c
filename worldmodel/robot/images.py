"""Which of the camera's images may be believed."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fault = Literal["no_image", "bad_image", "frozen_image", "late_image"]
FAULTS: tuple[Fault, ...] = ("no_image", "bad_image", "frozen_image", "late_image")


@dataclass(frozen=True)
class Seen:
    """An image of our own, or what was wrong with the one that came."""

    taken_at: float  # seconds, by the controller's clock
    image: NDArray[np.uint8] | None = None  # [H, W, C] a copy: cameras fill their buffer again
    fault: Fault | None = None


class ImageWatch:
    """Remembers the last image, to know one that is late or frozen.

    An image is *bad* unless it is a uint8 array of the agent's shape; *late* if it was taken more
    than ``max_age_s`` ago, before the last one, or at no time that can be (in more than
    ``max_early_s``, NaN, not a number); *frozen* once the very same bytes have been coming for
    longer than ``max_still_s``, or came late at first. A real camera's noise changes some byte in
    every image.
    """

    def __init__(
        self, shape: tuple[int, ...], max_age_s: float, max_still_s: float, max_early_s: float
    ) -> None:
        self.shape = shape
        self.max_age_s = max_age_s
        self.max_still_s = max_still_s
        self.max_early_s = max_early_s
        self._last: NDArray[np.uint8] | None = None
        self._changed_at = 0.0
        self._last_taken_at = -math.inf

    def look(self, image: object, taken_at: object, now: float) -> Seen:
        if image is None:
            return Seen(now, fault="no_image")
        array = self._read(image)
        if array is None:
            return Seen(now, fault="bad_image")
        taken = now if taken_at is None else _seconds(taken_at)
        if self._last is None or not np.array_equal(array, self._last):
            self._last = np.array(array)
            # bytes that came late are as old when they come again and nobody says how old
            self._changed_at = taken if taken < now - self.max_age_s else now
        is_frozen = now - self._changed_at > self.max_still_s
        if not max(now - self.max_age_s, self._last_taken_at) <= taken <= now + self.max_early_s:
            return Seen(now, fault="late_image")
        if is_frozen:
            return Seen(now, fault="frozen_image")
        self._last_taken_at = taken
        return Seen(taken, self._last)

    def _read(self, image: object) -> NDArray[np.uint8] | None:
        try:
            if isinstance(image, np.ndarray) and image.dtype == np.uint8:
                return np.asarray(image) if image.shape == self.shape else None
        except Exception:  # whatever a stranger's object does when it is looked at
            return None
        return None


def _seconds(time: object) -> float:
    """NaN for what is no time: it is neither early enough nor late enough."""
    try:
        is_number = isinstance(time, numbers.Real) and not isinstance(time, bool)
        return float(time) if is_number else math.nan  # type: ignore[arg-type]
    except Exception:  # whatever a stranger's object does when it is looked at
        return math.nan
