"""Limits that hold inside a search: of the actions, of their change, and a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from worldmodel.planners.planner import Project

Allowed = Callable[[Tensor, Tensor], Tensor]
"""A user's constraint: latents [B, N, L, F], actions [B, N, L, A] -> bool [B, N, L]."""


@dataclass(frozen=True, eq=False)
class Limits:
    """What every candidate of a search keeps, and so its answer.

    ::

        limits = worldmodel.Limits(low=-0.5, high=[0.5, 1.0], max_change=0.2, allowed=is_safe)
        plan = agent.plan(belief, previous=plan, limits=limits.after(action))

    Numbers are in the agent's units, [-1, 1]: one for all motors, [A], or [B, A]. ``max_change`` is
    that of an action from the row before. The plan's first row counts from the action done last:
    the end of ``delay``, else that of ``after``, else the first of the previous plan. Where that
    one lies outside low and high, the change is counted from the nearest place inside.

    ``allowed`` rejects: a candidate that breaks it in any row loses to every one that keeps it.
    A plan whose ``is_allowed`` is False found none. A constraint that may be broken at a price
    belongs in the score instead.
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

    def after(self, action: ArrayLike) -> Limits:
        """The same, where ``action`` [A] or [B, A] is what was done last."""
        return replace(self, last=action)

    @property
    def bounds_change(self) -> bool:
        return bool(np.isfinite(_numbers("max_change", self.max_change)).any())

    @property
    def bounds_numbers(self) -> bool:
        """Whether anything but ``allowed`` holds."""
        low, high = _numbers("low", self.low), _numbers("high", self.high)
        return self.bounds_change or bool((low > -1).any() or (high < 1).any())

    def project(self, start: Tensor, last: Tensor | None) -> Project:
        """For a search from ``start`` [B, L, A] after ``last`` [A] or [B, A] was done.

        The change is bounded row by row, each from where the row before it came to lie.
        """
        low, high, change = (
            _rows(name, torch.as_tensor(_numbers(name, getattr(self, name))), start)
            for name in ("low", "high", "max_change")
        )  # [B, 1, A]
        # so much less that no rounding of a sum goes over the limit
        change = (change - torch.finfo(start.dtype).eps).clamp(min=0.0)
        if not self.bounds_change:
            return lambda candidates: clamp_with_slope(
                candidates, low[:, :, None], high[:, :, None]
            )
        if last is None:
            raise ValueError(
                "limits: max_change needs the action that was done last;"
                " give limits.after(action), delay= or previous="
            )
        done = _rows("the action done last", last, start).clamp(low, high)  # [B, 1, A]

        def project(candidates: Tensor) -> Tensor:
            """[B, N, L, A] -> the same"""
            rows, before = [], done
            for wished in candidates.unbind(2):  # [B, N, A]
                lowest = torch.maximum(low, before - change)
                highest = torch.minimum(high, before + change)
                before = clamp_with_slope(wished, lowest, highest)
                rows.append(before)
            return torch.stack(rows, 2)

        return project


def clamp_with_slope(wished: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """``wished`` between the limits, which broadcast to it."""
    if not wished.requires_grad:
        return wished.clamp(lowest, highest)
    lowest, highest = lowest.expand_as(wished), highest.expand_as(wished)
    return _ClampWithSlope.apply(wished, lowest, highest)  # type: ignore[no-untyped-call, no-any-return]


class _ClampWithSlope(torch.autograd.Function):
    """A clamp for climbing: a slope that pushes against a limit moves the limit.

    Where one action is held by the change allowed from the one before, it is the one before that
    has to move. A clamp's own slope is zero there, and a climb along it ends where clipping does.
    """

    @staticmethod
    def forward(ctx: Any, wished: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        ctx.save_for_backward(wished <= lowest, wished >= highest)
        return wished.clamp(lowest, highest)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (slope,) = slopes
        is_low, is_high = ctx.saved_tensors
        is_low = is_low & (slope < 0)
        is_high = is_high & (slope > 0)
        return (
            slope.masked_fill(is_low | is_high, 0.0),
            slope.where(is_low, 0.0),
            slope.where(is_high, 0.0),
        )


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"limits: {name}: expected numbers, got {value!r}") from error
    return numbers


def _rows(name: str, value: Tensor, start: Tensor) -> Tensor:
    """[], [A] or [B, A] -> [B, 1, A]"""
    batch, _, action_size = start.shape
    try:
        return value.to(start).expand(batch, action_size)[:, None]
    except RuntimeError as error:
        raise ValueError(
            f"limits: {name}: expected one number, [{action_size}] or [{batch}, {action_size}],"
            f" got {list(value.shape)}"
        ) from error
