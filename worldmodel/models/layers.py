"""Dense layers and recurrent cells, of two kinds: with LayerNorm, and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from worldmodel.models.fast.onednn import Linear

Layers = Literal["normed", "plain"]
"""Dense layers of a model: LayerNorm and SiLU, or PlaNet's ReLU without a norm."""
Layer = Callable[[int, int], nn.Module]
"""(inputs, outputs) -> one dense layer with its activation."""


def normed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        Linear(inputs, outputs, bias=False), nn.LayerNorm(outputs, eps=1e-3), nn.SiLU()
    )


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(Linear(inputs, outputs), nn.ReLU())


def mlp(inputs: int, size: int, layers: int, layer: Layer) -> nn.Sequential:
    return nn.Sequential(*(layer(inputs if i == 0 else size, size) for i in range(layers)))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, C, H, W]"""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class GRUCell(nn.Module):
    """The gated recurrent unit as first published: the reset gate is applied before the product.

    r, z = sigmoid(W [x, h]);  c = tanh(U [x, r h]);  h' = z h + (1 - z) c
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.gates = Linear(inputs + size, 2 * size)
        self.candidate = Linear(inputs + size, size)
        nn.init.ones_(self.gates.bias)  # at first the new state is mostly the old one

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """[..., I], [..., D] -> [..., D]"""
        reset, update = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], -1)))
        return torch.lerp(candidate.to(h), h, update.to(h))


class NormedGRUCell(nn.Module):
    """A gated recurrent unit with one product for all three gates, and LayerNorm on it.

    r, c, z = LayerNorm(W [x, h]);  c = tanh(sigmoid(r) c);  z = sigmoid(z - 1)
    h' = z c + (1 - z) h, where the shift by 1 makes the first new states mostly the old ones
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.gates = Linear(inputs + size, 3 * size, bias=False)
        self.norm = nn.LayerNorm(3 * size, eps=1e-3)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """[..., I], [..., D] -> [..., D]"""
        gates = self.norm(self.gates(torch.cat([x, h], -1)))
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(h, candidate.to(h), torch.sigmoid(update - 1.0).to(h))


class ConvGRUCell(nn.Module):
    """``GRUCell`` on pictures: every product is a convolution of 3x3."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + size, 2 * size, 3, 1, 1)
        self.candidate = nn.Conv2d(channels + size, size, 3, 1, 1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """[M, C, H, W], [M, D, H, W] -> [M, D, H, W]"""
        reset, update = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], 1)))
        return torch.lerp(candidate.to(h), h, update.to(h))


CELLS: dict[Layers, type[NormedGRUCell] | type[GRUCell]] = {
    "normed": NormedGRUCell,
    "plain": GRUCell,
}


def layer_of(layers: Layers) -> Layer:
    return normed if layers == "normed" else plain
