"""Deterministic dynamics: one vector follows from the last one and the action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.latents import Point
from worldmodel.models.layers import Layers, layer_of, mlp

HIDDEN_LAYERS = 2


@dataclass(frozen=True)
class DeterministicSettings:
    latent: ClassVar[str] = "point"
    offers: ClassVar[frozenset[str]] = frozenset({"point", "flat_state"})

    kind: Literal["deterministic"] = "deterministic"
    size: Annotated[int, at_least(1)] = 32
    """Numbers of a latent. Larger: it can hold more, and there is more to foresee."""
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers inside the dynamics. Larger: slower, and more can be learned."""

    def build(
        self, action_size: int, layers: Layers, image: tuple[int, int, int]
    ) -> DeterministicDynamics:
        return DeterministicDynamics(self, action_size, layers)


class DeterministicDynamics(nn.Module):
    """A network of latent and action is the next latent::

        z' = f(z, action)

    ``remember`` computes the hidden layers of f, ``imagine`` its last one. Noise has no numbers.
    """

    noise_size = 0

    def __init__(self, settings: DeterministicSettings, action_size: int, layers: Layers) -> None:
        super().__init__()
        self.feature_size = self.statistics_size = size = settings.size
        self.context_size = settings.hidden_size
        self.join = mlp(size + action_size, self.context_size, HIDDEN_LAYERS, layer_of(layers))
        self.prior = nn.Linear(self.context_size, size)

    def initial(self, *batch: int) -> Point:
        return Point(next(self.parameters()).new_zeros(*batch, self.feature_size))

    def remember(self, latent: Point, action: Tensor) -> Tensor:
        """[...], [..., A] -> [..., C]"""
        hidden: Tensor = self.join(torch.cat([latent.z, action], -1))
        return hidden

    def imagine(self, context: Tensor, noise: Tensor | None) -> Point:
        """[..., C] -> the predicted latent [...]"""
        return Point(self.prior(context))

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Point:
        """[..., C], [..., S] -> [...]"""
        return Point(statistics)

    def state(self, latent: Point) -> Tensor:
        """The flat state of iLQR: [...] -> [..., S]"""
        return latent.z

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """[S], [A] -> [S]"""
        return self.imagine(self.remember(Point(state), action), None).z

    def features_of(self, state: Tensor) -> Tensor:
        return state
