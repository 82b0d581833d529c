"""The limits of a control loop, checked when its controller is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldmodel.robot.actor import Actor, require_action_size
from worldmodel.robot.guard import Guard
from worldmodel.robot.messages import Worker


@dataclass(frozen=True)
class ControllerLimits:
    """The limits of a controller: those of the motor, and those of time."""

    guard: Guard
    rest: NDArray[np.float32]  # [A] inside the guard's limits
    rate_hz: float
    max_age_s: float
    answer_s: float  # how long a step may take
    still_s: Mapping[str, float]  # how long an input may repeat, by name, if given

    @classmethod
    def checked(
        cls,
        rate_hz: float,
        guard: Guard,
        rest: ArrayLike | None,
        max_age_s: float,
        max_still_s: float | Mapping[str, float] | None,
        answer_within: float,
    ) -> ControllerLimits:
        """Check all arguments; raise ``ValueError`` with the name of a wrong one."""
        check_between("rate_hz", rate_hz, 0.0, math.inf, "a number above 0")
        period_s = 1.0 / rate_hz
        check_between("max_age_s", max_age_s, 0.0, math.inf, "a number of seconds above 0")
        if max_age_s < period_s:
            raise ValueError(
                f"max_age_s: expected at least one period, {period_s:g} s, got {max_age_s}"
            )
        still_s = _check_still(max_still_s)
        check_between("answer_within", answer_within, 0.0, 1.0, "a share between 0 and 1")
        checked_rest = _check_rest(rest, guard)
        answer_s = answer_within * period_s
        return cls(guard, checked_rest, float(rate_hz), float(max_age_s), answer_s, still_s)

    @property
    def period_s(self) -> float:
        return 1.0 / self.rate_hz

    def described(self) -> dict[str, Any]:
        """As JSON can hold it."""
        numbers = {"low": self.guard.low, "high": self.guard.high, "rest": self.rest}
        return {
            **{name: of_motors.tolist() for name, of_motors in numbers.items()},
            "max_change": [str(change) for change in self.guard.max_change],
            "rate_hz": self.rate_hz,
            "max_age_s": self.max_age_s,
        }

    def still_s_for(self, worker: Worker | Actor) -> dict[str, float]:
        """How long each input of the worker's agent may repeat; raise if the agent does not fit."""
        require_action_size(worker.action_size, self.guard.action_size)
        vectors = worker.vector_sizes
        if unknown := self.still_s.keys() - {"image", *vectors}:
            raise ValueError(
                f"max_still_s: expected {', '.join(['image', *vectors])}, which the agent learned"
                f" from; got {', '.join(sorted(unknown))}"
            )
        return {"image": self.max_age_s, **dict.fromkeys(vectors, math.inf), **self.still_s}


def check_between(name: str, value: object, low: float, high: float, expected: str) -> None:
    is_number = isinstance(value, (int, float, np.floating, np.integer))
    if isinstance(value, bool) or not is_number or not low < float(value) < high:  # type: ignore[arg-type]
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def _check_still(max_still_s: float | Mapping[str, float] | None) -> dict[str, float]:
    if max_still_s is None:
        return {}
    still = dict(max_still_s) if isinstance(max_still_s, Mapping) else {"image": max_still_s}
    for name, seconds in still.items():
        if seconds != math.inf:
            expected = "a number above 0, or inf"
            check_between(f"max_still_s: {name}", seconds, 0.0, math.inf, expected)
    return still


def _check_rest(rest: ArrayLike | None, guard: Guard) -> NDArray[np.float32]:
    if rest is None:
        return guard.inside(np.zeros(guard.action_size))
    action = guard.read(rest)
    if action is None:
        raise ValueError(f"rest: expected [{guard.action_size}] numbers, got {rest!r}")
    inside = guard.inside(action)
    if not np.allclose(inside, action, rtol=1e-6, atol=0.0):
        raise ValueError(f"rest: expected an action inside low and high, got {rest!r}")
    return inside
