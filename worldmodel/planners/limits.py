"""Limits inside a search: the projection of candidates, through which gradients pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldmodel.limits import Limits, expanded, follow_changes
from worldmodel.planners.planner import Project


def projection_into(limits: Limits, start: Tensor, last: Tensor | None) -> Project:
    """A function that moves candidates inside the limits.

    For a search from ``start`` [B, L, A] after the action ``last`` [A] or [B, A]. The change is
    bounded row by row, each from the projected action of the row before it.
    """
    batch, _, action_size = start.shape
    low, high, change = (
        torch.as_tensor(numbers).to(start) for numbers in limits.of_batch(batch, action_size)
    )  # [B, 1, A]
    # a little less, so that a rounded sum does not exceed the limit
    change = (change - torch.finfo(start.dtype).eps).clamp(min=0.0)
    if not limits.bounds_change:
        return lambda candidates: clamp_with_slope(candidates, low[:, :, None], high[:, :, None])
    limits.require_last(last)
    assert last is not None
    numbers = expanded("the action done last", last.detach().cpu().numpy(), batch, action_size)
    done = torch.as_tensor(numbers).to(start).clamp(low, high)  # [B, 1, A]

    def project(candidates: Tensor) -> Tensor:
        """[B, N, L, A] -> the same"""
        rows = follow_changes(
            candidates.unbind(2),
            done,
            low,
            high,
            change,
            larger=torch.maximum,
            smaller=torch.minimum,
            clip=clamp_with_slope,
        )
        return torch.stack(list(rows), 2)

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
