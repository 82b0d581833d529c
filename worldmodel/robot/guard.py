"""The guard: it turns any object into an action inside the motor's limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldmodel.limits import Limits


class Guard:
    """The motor's limits, in the motor's own units.

    ::

        action = guard.restrict(candidate, last, executed)

    ``action`` is finite float32 [A] for any ``candidate`` and ``executed``, lies between
    ``low`` and ``high``, and no further than ``max_change`` from where the motor is: from
    ``executed`` if that can be read, else from ``last``, the action that went out before.

    If the two limits contradict each other, because ``executed`` is outside ``low`` and ``high``,
    low and high win: the change is measured from the nearest action inside. A ``candidate`` that
    cannot be read as an action (None, NaN, text, another shape) is replaced by ``last``.

    A guard has no memory: the caller keeps ``last``, and begins with ``inside(...)``.
    """

    def __init__(
        self, low: ArrayLike, high: ArrayLike, max_change: float | Sequence[float] | ArrayLike
    ) -> None:
        lowest = _numbers("low", low)
        highest = _numbers("high", high)
        if lowest.ndim != 1 or not lowest.size:
            raise ValueError(f"low: expected [A], one number for each motor, got {low!r}")
        if highest.shape != lowest.shape:
            raise ValueError(
                f"high: expected {list(lowest.shape)} as low, got {list(highest.shape)}"
            )
        for name, limit in (("low", lowest), ("high", highest)):
            if not (np.abs(limit) <= np.finfo(np.float32).max).all():
                raise ValueError(f"{name}: expected finite float32 numbers, got {limit.tolist()}")
        if not (lowest < highest).all():
            raise ValueError(
                f"low, high: expected low < high, got {lowest.tolist()} and {highest.tolist()}"
            )
        change = _numbers("max_change", max_change)
        if change.shape not in ((), lowest.shape):
            raise ValueError(
                f"max_change: expected one number or {list(lowest.shape)}, got {list(change.shape)}"
            )
        if not (change > 0).all():
            raise ValueError(f"max_change: expected more than 0, got {change.tolist()}")
        self.low = _round_inwards(lowest, np.inf)  # [A]
        self.high = _round_inwards(highest, -np.inf)  # [A]
        self.max_change: NDArray[np.float64] = np.broadcast_to(change, lowest.shape).copy()  # [A]
        if not (self.low < self.high).all():
            raise ValueError(
                "low, high: float32 has no two numbers between"
                f" {lowest.tolist()} and {highest.tolist()}"
            )

    def __repr__(self) -> str:
        low, high, change = self.low.tolist(), self.high.tolist(), self.max_change.tolist()
        return f"Guard(low={low}, high={high}, max_change={change})"

    @property
    def action_size(self) -> int:
        return len(self.low)

    def read(self, action: object) -> NDArray[np.float64] | None:
        """Read finite numbers [A], perhaps outside the limits; return None for anything else."""
        return read_numbers(action, self.action_size, np.float64)

    def inside(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """The nearest action between low and high."""
        return np.clip(action.astype(np.float64), self.low, self.high).astype(np.float32)

    def restrict(
        self, candidate: object, last: NDArray[np.float32], executed: object = None
    ) -> NDArray[np.float32]:
        """The action to send: the nearest one to the candidate that both limits allow."""
        reached = self.read(executed)
        start = last if reached is None else self.inside(reached)
        desired = self.read(candidate)
        if desired is None:
            desired = last.astype(np.float64)
        begin = start.astype(np.float64)
        lowest = np.maximum(self.low, begin - self.max_change)
        highest = np.minimum(self.high, begin + self.max_change)
        action = np.clip(desired, lowest, highest).astype(np.float32)
        # rounding to float32 may exceed the change; the next number towards the start does not
        too_far = np.abs(action.astype(np.float64) - begin) > self.max_change
        return np.where(too_far, np.nextafter(action, start), action)

    def limits(self, last: NDArray[np.float32]) -> Limits | None:
        """The largest change in the agent's units, as limits of a search; None if any is allowed.

        ``last`` [A], in the motor's units, is used if it is not known which action was done. Low
        and high are -1 and 1 in the agent's units.
        """
        share = 2.0 * self.max_change / (self.high.astype(np.float64) - self.low)
        if (share >= 2.0).all():  # from one bound to the other
            return None
        return Limits(max_change=share).after(self.to_agent(last))

    def to_motor(self, action: NDArray[np.floating]) -> NDArray[np.float64]:
        """[A] Scale linearly from the agent's [-1, 1] to the motor's low and high."""
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        share = (np.clip(action.astype(np.float64), -1.0, 1.0) + 1.0) / 2.0
        motor: NDArray[np.float64] = low + share * (high - low)
        return motor

    def to_agent(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """[A] Scale from the motor's units to [-1, 1]; clip what is outside the limits."""
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        share = (action.astype(np.float64) - low) / (high - low)
        return np.clip(2.0 * share - 1.0, -1.0, 1.0).astype(np.float32)


Float = TypeVar("Float", np.float32, np.float64)


def read_numbers(value: object, size: int, dtype: type[Float]) -> NDArray[Float] | None:
    """Read ``size`` finite numbers; return None for anything else, and never raise."""
    try:
        if isinstance(value, (list, tuple)):
            if len(value) != size:
                return None
        elif tuple(getattr(value, "shape", ())) != (size,):
            return None
        with np.errstate(all="ignore"):
            array = np.asarray(value)
            if array.dtype.kind not in "iuf" or array.shape != (size,):
                return None
            numbers = array.astype(dtype)
    except Exception:  # an unknown object may raise anything
        return None
    return numbers if np.isfinite(numbers).all() else None


def _numbers(name: str, value: object) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected numbers, got {value!r}") from error


def _round_inwards(limit: NDArray[np.float64], inwards: float) -> NDArray[np.float32]:
    """The nearest float32 inside the limit: most numbers, such as 0.1, are not float32 exactly."""
    rounded = limit.astype(np.float32)
    outside = rounded < limit if inwards > 0 else rounded > limit
    return np.where(outside, np.nextafter(rounded, np.float32(inwards)), rounded)
