"""Limits of the actions of a plan: numbers, the change between rows, and a user's own constraint.

This file needs numpy only, so exported agents take the same limits as others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Allowed = Callable[[Any, Any], Any]
"""A user's constraint: latents [B, N, L, F], actions [B, N, L, A] -> bool [B, N, L]."""

Array = TypeVar("Array")


@dataclass(frozen=True, eq=False, repr=False)
class Limits:
    """Limits that every candidate of a search keeps, and so does its answer.

    ::

        limits = worldmodel.Limits(low=-0.5, high=[0.5, 1.0], max_change=0.2, allowed=is_safe)
        plan = agent.plan(belief, previous=plan, limits=limits.after(action))

    Numbers are in the agent's units, [-1, 1]: one for all motors, [A], or [B, A]. ``max_change`` is
    the largest change of an action from the row before. For the plan's first row it counts from the
    action done last: the end of ``delay``, else that of ``after``, else the first action of the
    previous plan. If that action is outside low and high, the change counts from the nearest
    allowed number.

    ``allowed`` is a hard constraint: a candidate that breaks it in any row loses to every one that
    keeps it. A plan whose ``is_allowed`` is False found no candidate that keeps it. A constraint
    that may be broken at a price belongs in the score instead.
    """

    low: ArrayLike = -1.0
    high: ArrayLike = 1.0
    max_change: ArrayLike = math.inf
    allowed: Allowed | None = None
    last: ArrayLike | None = None

    def __post_init__(self) -> None:
        low, high = _numbers("low", self.low), _numbers("high", self.high)
        change = _numbers("max_change", self.max_change)
        if not ((low >= -1) & (high <= 1)).all():
            raise ValueError(
                "limits: low, high: expected numbers in the agent's [-1, 1],"
                f" got {low.tolist()} and {high.tolist()}"
            )
        if not (low <= high).all():
            raise ValueError(
                f"limits: expected low <= high, got {low.tolist()} and {high.tolist()}"
            )
        if not (change > 0).all():
            raise ValueError(f"limits: max_change: expected more than 0, got {change.tolist()}")
        if self.last is not None and not np.isfinite(_numbers("last", self.last)).all():
            raise ValueError(f"limits: after: expected a finite action, got {self.last}")

    def __repr__(self) -> str:
        """Only what limits anything."""
        said = []
        for name, free in (("low", -1.0), ("high", 1.0), ("max_change", math.inf)):
            numbers = _numbers(name, getattr(self, name))
            if not (numbers == free).all():
                said.append(f"{name}={numbers.tolist()}")
        if self.allowed is not None:
            said.append(f"allowed={getattr(self.allowed, '__name__', self.allowed)}")
        if self.last is not None:
            said.append(f"last={_numbers('last', self.last).tolist()}")
        return f"Limits({', '.join(said)})"

    def after(self, action: ArrayLike) -> Limits:
        """The same limits, where ``action`` [A] or [B, A] was the last one done."""
        return replace(self, last=action)

    @property
    def bounds_change(self) -> bool:
        return bool(np.isfinite(_numbers("max_change", self.max_change)).any())

    @property
    def bounds_numbers(self) -> bool:
        """Whether there is any limit other than ``allowed``."""
        low, high = _numbers("low", self.low), _numbers("high", self.high)
        return self.bounds_change or bool((low > -1).any() or (high < 1).any())

    def of_batch(self, batch: int, action_size: int) -> tuple[NDArray[np.float64], ...]:
        """``low``, ``high`` and ``max_change``, each [B, 1, A]."""
        return tuple(
            expanded(name, _numbers(name, getattr(self, name)), batch, action_size)
            for name in ("low", "high", "max_change")
        )

    def projection(
        self, action_size: int, last: ArrayLike | None
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """A function of numpy that moves candidates [N, L, A] of one robot inside the limits.

        ``last`` [A]: the action before the first row.
        """
        low, high, change = (
            numbers[0].astype(np.float32) for numbers in self.of_batch(1, action_size)
        )  # [1, A]
        if not self.bounds_change:
            return lambda candidates: candidates.clip(low, high)
        self.require_last(last)
        before = expanded("the action done last", np.asarray(last), 1, action_size)
        done = before[0].astype(np.float32).clip(low, high)
        # a little less, so that a rounded sum does not exceed the limit
        change = np.maximum(change - np.finfo(np.float32).eps, np.float32(0))

        def project(candidates: NDArray[np.float32]) -> NDArray[np.float32]:
            rows = follow_changes(
                candidates.transpose(1, 0, 2),
                done,
                low,
                high,
                change,
                larger=np.maximum,
                smaller=np.minimum,
                clip=np.clip,
            )
            return np.stack(list(rows), 1)

        return project

    def require_last(self, last: object) -> None:
        """Raise if there is a largest change, and it is not known what it counts from."""
        if self.bounds_change and last is None:
            raise ValueError(
                "limits: max_change needs the action that was done last;"
                " give limits.after(action), delay= or previous="
            )

    def refuse_for_choices(self) -> None:
        """Raise if there are limits of numbers: an action that is a choice has none."""
        if self.bounds_numbers:
            raise ValueError(
                "limits: an action of this agent is a choice, which has no low, high or"
                " max_change; only allowed= can hold"
            )


def follow_changes(
    rows: Iterable[Array],
    done: Array,
    low: Array,
    high: Array,
    change: Any,
    *,
    larger: Callable[[Any, Any], Array],
    smaller: Callable[[Any, Any], Array],
    clip: Callable[[Array, Array, Array], Array],
) -> Iterator[Array]:
    """Move each row of actions inside the change allowed from the moved row before it.

    ``done`` is the action before the first row. The last three arguments are the operations of
    numpy or of torch.
    """
    before: Any = done
    for action in rows:
        before = clip(action, larger(low, before - change), smaller(high, before + change))
        yield before


def expanded(name: str, value: NDArray[Any], batch: int, action_size: int) -> NDArray[np.float64]:
    """Numbers for the whole batch: [], [A] or [B, A] -> [B, 1, A]"""
    try:
        numbers = np.broadcast_to(value, (batch, action_size))
    except ValueError as error:
        raise ValueError(
            f"limits: {name}: expected one number, [{action_size}] or [{batch}, {action_size}],"
            f" got {list(value.shape)}"
        ) from error
    return np.array(numbers, np.float64)[:, None]


def _numbers(name: str, value: ArrayLike | None) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"limits: {name}: expected numbers, got {value!r}") from error
    return numbers
