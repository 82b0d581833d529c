"""Latents: what a model knows of the world at one moment, a record for each kind.

Every tensor has its leading axes first ([], [B], [B, T], [B, N, L]); the verbs over them are in
``structs``. A latent is opaque to everyone but the dynamics that made it. Others read its
``features``, its ``shape`` (the leading axes) and its ``distribution``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """A latent that is known exactly: a deterministic embedding."""

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
    """A draw from a diagonal Gaussian, and the Gaussian; its own ``distribution``."""

    mean: Tensor  # [..., S]
    std: Tensor  # [..., S]
    sample: Tensor  # [..., S] equal to the mean where nothing was drawn

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
    """``noise`` is standard normal [..., S]; None takes the mean."""
    return Gaussian(mean, std, mean if noise is None else mean + std * noise)


@dataclass(frozen=True)
class Remembered:
    """A deterministic part that remembers, and a random part: PlaNet's and Dreamer's latent.

    The order of the features is decided here alone: the remembered part, then the random one.
    """

    deter: Tensor  # [..., D]
    stoch: Gaussian | Point  # a planner needs no standard deviation and makes a Point

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
