"""Limits of a search: on actions, on the change between actions, and a user's own constraint."""

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

    def project(self, start: Tensor, last: Tensor | None) -> Project:
        """A function that moves candidates inside the limits.

        For a search from ``start`` [B, L, A] after the action ``last`` [A] or [B, A]. The change is
        bounded row by row, each from the projected action of the row before it.
        """
        low, high, change = (
            _expanded(name, torch.as_tensor(_numbers(name, getattr(self, name))), start)
            for name in ("low", "high", "max_change")
        )  # [B, 1, A]
        # a little less, so that a rounded sum does not exceed the limit
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
        done = _expanded("the action done last", last, start).clamp(low, high)  # [B, 1, A]

        def project(candidates: Tensor) -> Tensor:
            """[B, N, L, A] -> the same"""
            rows, before = [], done
            for action in candidates.unbind(2):  # [B, N, A]
                lowest = torch.maximum(low, before - change)
                highest = torch.minimum(high, before + change)
                before = clamp_with_slope(action, lowest, highest)
                rows.append(before)
            return torch.stack(rows, 2)

        return project


def clamp_with_slope(actions: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Clamp actions between limits that broadcast to them; gradients reach the limits too."""
    if not actions.requires_grad:
        return actions.clamp(lowest, highest)
    lowest, highest = lowest.expand_as(actions), highest.expand_as(actions)
    return _ClampWithSlope.apply(actions, lowest, highest)  # type: ignore[no-untyped-call, no-any-return]


class _ClampWithSlope(torch.autograd.Function):
    """A clamp for gradient ascent: a gradient that points across a limit goes to that limit.

    If an action is held by the change allowed from the action before, the action before has to
    move. The gradient of an ordinary clamp is zero there, and an ascent would end where clipping
    does.
    """

    @staticmethod
    def forward(ctx: Any, actions: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        ctx.save_for_backward(actions <= lowest, actions >= highest)
        return actions.clamp(lowest, highest)

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


def _expanded(name: str, value: Tensor, start: Tensor) -> Tensor:
    """Numbers for the whole batch: [], [A] or [B, A] -> [B, 1, A]"""
    batch, _, action_size = start.shape
    try:
        return value.to(start).expand(batch, action_size)[:, None]
    except RuntimeError as error:
        raise ValueError(
            f"limits: {name}: expected one number, [{action_size}] or [{batch}, {action_size}],"
            f" got {list(value.shape)}"
        ) from error
