"""Imagination: the parts of a model that a planner needs, in fast layers of one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.models.dynamics import Dynamics
from worldmodel.models.ensemble import Ensemble
from worldmodel.models.fast.packed import fast
from worldmodel.models.policy import AnyPolicy
from worldmodel.models.roll import given, imagined_rows, roll
from worldmodel.models.world import WorldModel
from worldmodel.structs import Latent, each, repeat, situation

# The parts of a model that a plan needs.
PLANNED = ("dynamics", "reward", "discount", "slow_value", "policy", "ensemble")


class Imagination:
    """The parts of a model that a plan needs, in ``dtype``; None: the model's own, unchanged.

    Latents stay in ``dtype`` from row to row; heads return float32. Fast layers hold copies of the
    weights, so ``refresh`` compares these with the model's and copies all of them again if one has
    changed. Only the model's own parts pass gradients.
    """

    def __init__(self, model: WorldModel, dtype: torch.dtype | None) -> None:
        self.model = model
        self.dtype = dtype
        self._copied_parts: list[nn.Module] = []
        self._copied_weights: list[Tensor] = []
        self._copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the model alone; the copy packs its weights: oneDNN's layout cannot be copied."""
        return Imagination, (self.model, self.dtype)

    def refresh(self) -> Imagination:
        """Take over the model's weights if they have changed, and return this object.

        Comparing weights takes a tenth of the time of packing them. Their version counters would be
        cheaper, but torch's fused optimizers do not advance them.
        """
        if self.dtype is not None and not self._is_current():
            self._copy()
        return self

    def imagine(self, belief: Latent, actions: Tensor, noise: Tensor | None) -> Latent:
        """belief [B], actions [B, N, L, A], noise [B, N, L, S] -> [B, N, L]"""
        begin = repeat(self._cast(belief), actions.shape[1])
        return roll(self.dynamics, begin, given(actions), actions.shape[-2], noise)[1]

    def follow(self, belief: Latent, noise: Tensor) -> Tensor:
        """The policy's actions, imagined from belief [B], noise [B, M, L, A]: [B, M, L, A]"""
        policy = self.policy
        assert policy is not None
        begin = repeat(self._cast(belief), noise.shape[1])

        def act(latent: Latent, row: int) -> Tensor:
            return policy.act(situation(latent), noise[..., row, :])

        return roll(self.dynamics, begin, act, noise.shape[-2], None)[0]

    def follow_mean(self, belief: Latent, rows: int, out_of_time: Callable[[], bool]) -> Tensor:
        """The policy's most likely actions, imagined from belief [B]: [B, L, A].

        L is ``rows``, or less if there is no more time.
        """
        policy = self.policy
        assert policy is not None
        actions = []

        def act(latent: Latent, row: int) -> Tensor:
            return policy.act(situation(latent), None)

        begin = self._cast(belief)
        for action, _ in imagined_rows(self.dynamics, begin, act, rows, None):
            actions.append(action)
            if out_of_time():
                break
        return torch.stack(actions, 1)

    def _cast(self, belief: Latent) -> Latent:
        dtype = self.dtype
        if dtype is None:
            return belief
        return each(belief, lambda part: part.to(dtype) if part.is_floating_point() else part)

    def _parts(self) -> list[nn.Module]:
        return [child for name, child in self.model.named_children() if name in PLANNED]

    def _copy(self) -> None:
        model, dtype = self.model, self.dtype

        def fast_copy(part: Any) -> Any:
            return part if part is None or dtype is None else fast(part, dtype)

        self.dynamics: Dynamics[Any] = fast_copy(model.dynamics)
        self.reward = fast_copy(model.reward)
        self.discount = fast_copy(model.discount)
        self.slow_value = fast_copy(model.slow_value)
        self.policy: AnyPolicy | None = fast_copy(model.policy)
        self.ensemble: Ensemble | None = fast_copy(model.ensemble)
        if dtype is not None:
            self._copied_parts = parts = self._parts()
            self._copied_weights = [weight.detach().clone() for weight in _weights(parts)]

    def _is_current(self) -> bool:
        parts, copied = self._parts(), self._copied_weights
        weights = _weights(parts)
        return (
            len(weights) == len(copied)
            and all(a is b for a, b in zip(parts, self._copied_parts, strict=True))
            and all(a.device == b.device for a, b in zip(weights, copied, strict=True))
            and all(map(torch.equal, weights, copied))
        )


def _weights(parts: Sequence[nn.Module]) -> list[Tensor]:
    return [weight for part in parts for weight in part.parameters()]
