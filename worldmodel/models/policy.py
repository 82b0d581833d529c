"""Policies on the latent: they propose actions to the planner, or act alone.

Both take standard normal noise [..., A] and follow their most likely action without it. ``draw``
is differentiable in the parameters, and gives the ``spread`` [..., A] that ``entropy`` wants.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.layers import Layer, mlp


class Policy(nn.Module):
    """A Gaussian around a squashed mean, clipped to [-1, 1], its std between 0.1 and 1."""

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, 2 * action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] -> mean [..., A], std [..., A]"""
        mean, std = self.last(self.net(features)).float().chunk(2, -1)
        return torch.tanh(mean), 0.1 + 0.9 * torch.sigmoid(std + 2.0)

    def draw(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F], [..., A] -> actions [..., A], their std [..., A]"""
        mean, std = self(features)
        return (mean + std * noise).clamp(-1.0, 1.0), std

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the mean -> [..., A]"""
        mean, std = self(features)
        drawn: Tensor = mean if noise is None else (mean + std * noise).clamp(-1.0, 1.0)
        return drawn

    @staticmethod
    def entropy(std: Tensor) -> Tensor:
        """[..., A] -> [...] before clipping"""
        return (torch.log(std) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class CategoricalPolicy(nn.Module):
    """One of A choices, one-hot, none ever less likely than a hundredth of an even share.

    Drawn by the Gumbel trick from the noise that a Gaussian would take, through its own
    distribution function:

        choice = argmax(log p + g),  g = -log(-log Phi(noise))

    The gradient is straight-through: forwards the choice, backwards the probabilities. It is
    biased, and needs no second way of learning: imagined returns flow back through the dynamics
    as they do for a Gaussian.
    """

    even_share = 0.01  # as DreamerV3's: log-probabilities stay finite

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> log-probabilities [..., A]"""
        probabilities = self.last(self.net(features)).float().softmax(-1)
        even = self.even_share / probabilities.shape[-1]
        mixed: Tensor = ((1 - self.even_share) * probabilities + even).log()
        return mixed

    def draw(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F], [..., A] -> choices [..., A], their log-probabilities [..., A]"""
        spread = self(features)
        probabilities = spread.exp()
        return choose(spread, noise) + (probabilities - probabilities.detach()), spread

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the likeliest -> one-hot [..., A]"""
        spread = self(features)
        return choose(spread, torch.zeros_like(spread) if noise is None else noise)

    @staticmethod
    def entropy(spread: Tensor) -> Tensor:
        """[..., A] -> [...]"""
        return -(spread.exp() * spread).sum(-1)


def choose(log_probabilities: Tensor, noise: Tensor) -> Tensor:
    """[..., A], standard normal [..., A] -> one-hot [..., A]; equal noise: the likeliest"""
    gumbel = -torch.log(-torch.special.log_ndtr(noise))
    place = (log_probabilities + gumbel).argmax(-1)
    return functional.one_hot(place, noise.shape[-1]).to(log_probabilities)


AnyPolicy = Policy | CategoricalPolicy
