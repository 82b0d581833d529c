"""The Gaussian state-space model: the next latent is Gaussian, and there is no other memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than
from worldmodel.models.latents import Gaussian, draw_gaussian, gaussian_of
from worldmodel.models.layers import Layers, layer_of, mlp

HIDDEN_LAYERS = 2


@dataclass(frozen=True)
class GaussianSettings:
    latent: ClassVar[str] = "gaussian"
    offers: ClassVar[frozenset[str]] = frozenset({"distribution", "gaussian", "flat_state"})

    kind: Literal["gaussian"] = "gaussian"
    size: Annotated[int, at_least(1)] = 32
    """Numbers of a latent. Larger: it can hold more, and there is more to foresee."""
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers inside the dynamics. Larger: slower, and more can be learned."""
    min_std: Annotated[float, more_than(0)] = 0.1
    """Smallest standard deviation of a latent. Larger: the model is never sure of small details."""

    def build(
        self, action_size: int, layers: Layers, image: tuple[int, int, int]
    ) -> GaussianDynamics:
        return GaussianDynamics(self, action_size, layers)


class GaussianDynamics(nn.Module):
    """A network of latent and action gives the mean and the standard deviation of the next latent::

        s' ~ N(f(s, action))

    ``remember`` computes the hidden layers of f, ``imagine`` its last one. All that a latent knows
    of the past is s itself: a velocity that no single image shows must be in s.
    """

    def __init__(self, settings: GaussianSettings, action_size: int, layers: Layers) -> None:
        super().__init__()
        self.feature_size = self.noise_size = size = settings.size
        self.context_size = settings.hidden_size
        self.statistics_size = 2 * size
        self.min_std = settings.min_std
        self.join = mlp(size + action_size, self.context_size, HIDDEN_LAYERS, layer_of(layers))
        self.prior = nn.Linear(self.context_size, self.statistics_size)

    def initial(self, *batch: int) -> Gaussian:
        """The standard normal distribution, at its mean."""
        mean = next(self.parameters()).new_zeros(*batch, self.feature_size)
        return draw_gaussian(mean, torch.ones_like(mean), None)

    def remember(self, latent: Gaussian, action: Tensor) -> Tensor:
        """[...], [..., A] -> [..., C]"""
        return self._hidden(latent.sample, action)

    def imagine(self, context: Tensor, noise: Tensor | None) -> Gaussian:
        """[..., C], [..., S] -> the prior [...]"""
        return self.believe(context, self.prior(context), noise)

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Gaussian:
        """[..., C], mean and raw std [..., 2 S], [..., S] -> [...]"""
        return gaussian_of(statistics, self.min_std, noise)

    def state(self, latent: Gaussian) -> Tensor:
        """The flat state of iLQR: [...] -> [..., S]"""
        return latent.features

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The next state, by the prior's mean: [S], [A] -> [S]"""
        return self.imagine(self._hidden(state, action), None).mean

    def features_of(self, state: Tensor) -> Tensor:
        return state

    def _hidden(self, state: Tensor, action: Tensor) -> Tensor:
        hidden: Tensor = self.join(torch.cat([state, action], -1))
        return hidden
