"""No dynamics: a latent is what the image says, and nothing is foreseen.

For agents that act without planning. Whatever is done, these dynamics imagine that nothing
changes. So an agent keeps its belief where an image fails, and a planner refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than
from worldmodel.models.latents import Gaussian, Point, draw_gaussian, gaussian_of
from worldmodel.models.layers import Layers


@dataclass(frozen=True)
class NoDynamicsSettings:
    kind: Literal["none"] = "none"
    latent: Literal["gaussian", "point"] = "gaussian"
    """What a latent is: gaussian, a distribution, as a variational autoencoder has; point, one
    vector, for the deterministic posterior."""
    size: Annotated[int, at_least(1)] = 32
    """Numbers of a latent. Larger: it can hold more of what images show."""
    min_std: Annotated[float, more_than(0)] = 0.01
    """Smallest standard deviation of a gaussian latent. Larger: the model is never sure of small
    details."""

    @property
    def offers(self) -> frozenset[str]:
        return frozenset({"point"} if self.latent == "point" else {"distribution", "gaussian"})

    def build(
        self, action_size: int, layers: Layers, image: tuple[int, int, int]
    ) -> StillPoint | StillGaussian:
        return STILL[self.latent](self)


class StillPoint(nn.Module):
    """A vector that stays as it is; the context of a row is the vector itself."""

    noise_size = 0
    zero: Tensor

    def __init__(self, settings: NoDynamicsSettings) -> None:
        super().__init__()
        self.feature_size = self.statistics_size = self.context_size = settings.size
        self.register_buffer("zero", torch.zeros(settings.size), persistent=False)

    def initial(self, *batch: int) -> Point:
        return Point(self.zero.repeat(*batch, 1) if batch else self.zero.clone())

    def remember(self, latent: Point, action: Tensor) -> Tensor:
        """[...], [..., A] -> [..., S]"""
        return latent.z

    def imagine(self, context: Tensor, noise: Tensor | None) -> Point:
        """[..., S] -> the same latent [...]"""
        return Point(context)

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Point:
        """[..., S], [..., S] -> [...]"""
        return Point(statistics)


class StillGaussian(nn.Module):
    """A Gaussian that stays as it is; the context of a row is its mean, its std and its sample."""

    zero: Tensor

    def __init__(self, settings: NoDynamicsSettings) -> None:
        super().__init__()
        self.feature_size = self.noise_size = settings.size
        self.statistics_size, self.context_size = 2 * settings.size, 3 * settings.size
        self.min_std = settings.min_std
        self.register_buffer("zero", torch.zeros(settings.size), persistent=False)

    def initial(self, *batch: int) -> Gaussian:
        """The standard normal distribution, at its mean."""
        mean = self.zero.repeat(*batch, 1) if batch else self.zero.clone()
        return draw_gaussian(mean, torch.ones_like(mean), None)

    def remember(self, latent: Gaussian, action: Tensor) -> Tensor:
        """[...], [..., A] -> [..., 3 S]"""
        return torch.cat([latent.mean, latent.std, latent.sample], -1)

    def imagine(self, context: Tensor, noise: Tensor | None) -> Gaussian:
        """[..., 3 S] -> the same latent [...]"""
        return Gaussian(*context.chunk(3, -1))

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Gaussian:
        """[..., 3 S], mean and raw std [..., 2 S], [..., S] -> [...]"""
        return gaussian_of(statistics, self.min_std, noise)


NoDynamics = StillPoint | StillGaussian
STILL: dict[str, type[StillPoint] | type[StillGaussian]] = {
    "point": StillPoint,
    "gaussian": StillGaussian,
}
