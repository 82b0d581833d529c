"""Latents: a model's state of the world at one moment, one record a kind.

Every tensor has its leading axes first ([], [B], [B, T], [B, N, L]); functions over these axes are
in ``structs``. Only the dynamics that made a latent reads its fields. Everyone else reads its
``features``, its ``shape`` (the leading axes) and its ``distribution``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Point:
    """A deterministic latent: a vector without a distribution."""

    z: Tensor  # [..., S]

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.z

    @property
    def shape(self) -> torch.Size:
        return self.z.shape[:-1]

    @property
    def distribution(self) -> None:
        return None


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian and a sample from it; it is its own ``distribution``."""

    mean: Tensor  # [..., S]
    std: Tensor  # [..., S]
    sample: Tensor  # [..., S] the mean itself if no noise was given

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.sample

    @property
    def shape(self) -> torch.Size:
        return self.mean.shape[:-1]

    @property
    def distribution(self) -> Gaussian:
        return self

    def divergence(self, prior: Gaussian) -> Tensor:
        """KL(self || prior), summed over S: [...]"""
        ratio = (self.std / prior.std).square()
        distance = ((self.mean - prior.mean) / prior.std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def draw_gaussian(mean: Tensor, std: Tensor, noise: Tensor | None) -> Gaussian:
    """A Gaussian and its sample; ``noise`` is standard normal [..., S], None takes the mean."""
    return Gaussian(mean, std, mean if noise is None else mean + std * noise)


def gaussian_of(statistics: Tensor, min_std: float, noise: Tensor | None) -> Gaussian:
    """A Gaussian from a network's numbers, mean and raw std [..., 2 S]."""
    mean, raw = statistics.chunk(2, -1)
    # softplus of a copy: of the view, with 1000 latents of 30 numbers, takes 15 times as long
    std = functional.softplus(raw.contiguous()) + min_std
    return draw_gaussian(mean, std, noise)


@dataclass(frozen=True)
class Remembered:
    """A deterministic, recurrent part and a random part: PlaNet's and Dreamer's latent.

    The order of the features is decided only here: the deterministic part, then the random one.
    """

    deter: Tensor  # [..., D]
    stoch: Gaussian | Point  # a Point in plans, which need no standard deviation

    @property
    def features(self) -> Tensor:
        """[..., D + S]"""
        return torch.cat([self.deter, self.stoch.features], -1)

    @property
    def shape(self) -> torch.Size:
        return self.deter.shape[:-1]

    @property
    def distribution(self) -> Gaussian | None:
        return self.stoch.distribution
