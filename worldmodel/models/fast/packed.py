"""Fast layers for planning: ``fast(part, dtype)`` gives the same module with packed weights.

A plan multiplies many candidates with the same few weights, many times. So each weight is put once
into the memory layout that oneDNN multiplies from, and bias and activation are applied before the
result of a product is stored. No gradient passes.

A new kind of layer registers its fast version with ``@fast.register``. A module without one keeps
its own code, with fast children.
"""

from __future__ import annotations

import copy
from functools import singledispatch

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models.fast.onednn import has_onednn, packed_weight, product_with
from worldmodel.models.latents import Point, Remembered
from worldmodel.models.layers import GRUCell, NormedGRUCell

# Activations that oneDNN applies to a product before it is stored.
FUSED = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh"}


@singledispatch
def fast(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of the module with fast children; all else that it holds is shared."""
    copied = copy.copy(part)
    copied._modules = {
        name: None if child is None else fast(child, dtype) for name, child in part._modules.items()
    }
    return copied


@fast.register
def _(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    return Product(linear, "none", dtype)


@fast.register
def _(convolution: nn.Conv2d, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(convolution).to(dtype).requires_grad_(False)


@fast.register
def _(norm: nn.LayerNorm, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(norm).to(dtype).requires_grad_(False)


@fast.register
def _(chain: nn.Sequential, dtype: torch.dtype) -> nn.Module:
    """Each product applies the activation that follows it."""
    parts: list[nn.Module] = []
    for part in chain:
        before = parts[-1] if parts else None
        if isinstance(before, Product) and before.after == "none" and type(part) in FUSED:
            before.after = FUSED[type(part)]
        elif isinstance(part, nn.SiLU):
            parts.append(nn.SiLU(inplace=True))  # nothing else reads its input
        else:
            parts.append(fast(part, dtype))
    return nn.Sequential(*parts)


class Product(nn.Module):
    """A dense layer, ``after(x W' + b)``. Its weights are copies, not parameters."""

    def __init__(
        self,
        linear: nn.Linear,
        after: str,
        dtype: torch.dtype,
        order: Tensor | slice = slice(None),  # which outputs, in which order
    ) -> None:
        super().__init__()
        self.after = after
        self.dtype = dtype
        weight: Tensor = linear.weight.detach()[order].to(dtype)
        self.bias = None if linear.bias is None else linear.bias.detach()[order].to(dtype)
        self.is_packed = weight.device.type == "cpu" and has_onednn(dtype)
        if self.is_packed:
            weight = packed_weight(weight)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] of any dtype -> [..., O] of this one"""
        if x.dtype != self.dtype:
            x = x.to(self.dtype)
        if self.is_packed:
            return product_with(x, self.weight, self.bias, self.after)
        product = functional.linear(x, self.weight, self.bias)
        return product if self.after == "none" else getattr(torch, f"{self.after}_")(product)


@fast.register
def _(dynamics: Recurrent, dtype: torch.dtype) -> nn.Module:
    return FastRecurrent(dynamics, dtype)


class FastRecurrent(nn.Module):
    """``Recurrent`` for plans: without noise it computes no standard deviation."""

    def __init__(self, dynamics: Recurrent, dtype: torch.dtype) -> None:
        super().__init__()
        hidden, last = dynamics.prior
        assert isinstance(last, nn.Linear)
        size = dynamics.stoch_size
        self.dtype = dtype
        self.join = fast(dynamics.join, dtype)
        self.cell = fast(dynamics.cell, dtype)
        self.hidden = fast(hidden, dtype)
        self.mean = Product(last, "none", dtype, slice(size))
        self.raw_std = Product(last, "none", dtype, slice(size, 2 * size))
        self.min_std = dynamics.min_std

    def remember(self, latent: Remembered, action: Tensor) -> Tensor:
        """[...], [..., A] -> [..., D]"""
        joined = self.join(torch.cat([latent.stoch.features, action.to(self.dtype)], -1))
        deter: Tensor = self.cell(joined, latent.deter)
        return deter

    def imagine(self, context: Tensor, noise: Tensor | None) -> Remembered:
        """[..., D], [..., S] -> [...]"""
        hidden = self.hidden(context)
        mean: Tensor = self.mean(hidden)
        if noise is None:
            return Remembered(context, Point(mean))
        std = functional.softplus(self.raw_std(hidden)) + self.min_std
        # for 1000 latents in bfloat16 this is faster than addcmul
        return Remembered(context, Point(mean + std * noise.to(self.dtype)))


@fast.register
def _(cell: GRUCell, dtype: torch.dtype) -> nn.Module:
    return FastGRU(cell, dtype)


class FastGRU(nn.Module):
    """``GRUCell`` with packed weights."""

    def __init__(self, cell: GRUCell, dtype: torch.dtype) -> None:
        super().__init__()
        self.gates = Product(cell.gates, "sigmoid", dtype)
        self.candidate = Product(cell.candidate, "tanh", dtype)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """[..., I], [..., D] -> [..., D]"""
        reset, update = self.gates(torch.cat([x, h], -1)).chunk(2, -1)
        candidate = self.candidate(torch.cat([x, reset * h], -1))
        return torch.lerp(candidate, h, update)


@fast.register
def _(cell: NormedGRUCell, dtype: torch.dtype) -> nn.Module:
    return FastNormedGRU(cell, dtype)


class FastNormedGRU(nn.Module):
    """``NormedGRUCell`` with packed weights.

    Its outputs are reordered so that one sigmoid computes both gates. The update gate's shift by -1
    is part of the norm's bias.
    """

    def __init__(self, cell: NormedGRUCell, dtype: torch.dtype) -> None:
        super().__init__()
        size = cell.gates.out_features // 3
        outputs = rearrange(torch.arange(3 * size), "(gate d) -> gate d", gate=3)  # r, c, z
        order = outputs[[0, 2, 1]].flatten()  # r, z, c
        shift = torch.zeros(3 * size).index_fill_(0, torch.arange(size, 2 * size), -1.0)
        self.size = size
        self.gates = Product(cell.gates, "none", dtype, order)
        self.shape, self.eps = cell.norm.normalized_shape, cell.norm.eps
        order, shift = order.to(cell.norm.bias.device), shift.to(cell.norm.bias.device)
        self.scale = cell.norm.weight.detach()[order].to(dtype)
        self.shift = (cell.norm.bias.detach()[order] + shift).to(dtype)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """[..., I], [..., D] -> [..., D]"""
        gates = self.gates(torch.cat([x, h], -1))
        gates = functional.layer_norm(gates, self.shape, self.scale, self.shift, self.eps)
        reset_update, candidate = torch.split_with_sizes(gates, (2 * self.size, self.size), -1)
        reset, update = reset_update.sigmoid().chunk(2, -1)
        candidate = (reset * candidate).tanh_()
        return torch.lerp(h, candidate, update)
