"""What planners ask of a model, as fast as this machine multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.models.dynamics import Dynamics
from worldmodel.models.fast.packed import fast
from worldmodel.models.policy import AnyPolicy
from worldmodel.models.roll import given, roll
from worldmodel.models.world import WorldModel
from worldmodel.structs import Latent, each, repeat

PLANNED = ("dynamics", "reward", "discount", "slow_value", "policy")


class Imagination:
    """The parts of a model that a plan needs, in ``dtype``; None: the model's own, unchanged.

    Latents stay in ``dtype`` from row to row, heads answer in float32. Quick layers hold copies of
    the weights, so ``refresh`` compares them with the model's, and copies anew what has changed.
    Only the model's own parts pass gradients.
    """

    def __init__(self, model: WorldModel, dtype: torch.dtype | None) -> None:
        self.model = model
        self.dtype = dtype
        self._made_of: list[nn.Module] = []
        self._weights: list[Tensor] = []
        self._copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or another process, packs weights anew: oneDNN's layout cannot be copied."""
        return Imagination, (self.model, self.dtype)

    def refresh(self) -> Imagination:
        """Itself, of the model as it is now.

        Comparing weights takes a tenth of packing them. Their version counters would be cheaper,
        and miss the steps of torch's fused optimizers.
        """
        if self.dtype is not None and not self._is_current():
            self._copy()
        return self

    def imagine(self, belief: Latent, actions: Tensor, noise: Tensor | None) -> Latent:
        """belief [B], actions [B, N, L, A], noise [B, N, L, S] -> [B, N, L]"""
        begin = repeat(self._cast(belief), actions.shape[1])
        return roll(self.dynamics, begin, given(actions), actions.shape[-2], noise)[1]

    def follow(self, belief: Latent, noise: Tensor) -> Tensor:
        """What the policy does from belief [B] on, by its noise [B, M, L, A]: [B, M, L, A]"""
        policy = self.policy
        assert policy is not None
        begin = repeat(self._cast(belief), noise.shape[1])

        def act(latent: Latent, row: int) -> Tensor:
            return policy.act(latent.features, noise[..., row, :])

        return roll(self.dynamics, begin, act, noise.shape[-2], None)[0]

    def _cast(self, belief: Latent) -> Latent:
        dtype = self.dtype
        return belief if dtype is None else each(belief, lambda part: part.to(dtype))

    def _parts(self) -> list[nn.Module]:
        return [child for name, child in self.model.named_children() if name in PLANNED]

    def _copy(self) -> None:
        model, dtype = self.model, self.dtype

        def quick(part: Any) -> Any:
            return part if part is None or dtype is None else fast(part, dtype)

        self.dynamics: Dynamics[Any] = quick(model.dynamics)
        self.reward = quick(model.reward)
        self.discount = quick(model.discount)
        self.slow_value = quick(model.slow_value)
        self.policy: AnyPolicy | None = quick(model.policy)
        if dtype is not None:
            self._made_of = self._parts()
            self._weights = [weight.detach().clone() for weight in _weights(self._made_of)]

    def _is_current(self) -> bool:
        parts = self._parts()
        weights = _weights(parts)
        return (
            len(weights) == len(self._weights)
            and all(a is b for a, b in zip(parts, self._made_of, strict=True))
            and all(a.device == b.device for a, b in zip(weights, self._weights, strict=True))
            and all(map(torch.equal, weights, self._weights))
        )


def _weights(parts: Sequence[nn.Module]) -> list[Tensor]:
    return [weight for part in parts for weight in part.parameters()]
