"""A policy on the latent: it proposes actions to the planner, or acts alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the mean -> [..., A]"""
        mean, std = self(features)
        drawn: Tensor = mean if noise is None else (mean + std * noise).clamp(-1.0, 1.0)
        return drawn

    @staticmethod
    def entropy(std: Tensor) -> Tensor:
        """[..., A] -> [...] before clipping"""
        return (torch.log(std) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
