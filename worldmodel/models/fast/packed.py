"""Layers for planning: ``fast(part, dtype)`` gives the same module with quicker layers.

A plan is products of many candidates with the same few weights, again and again. So each weight is
put once into the layout that oneDNN multiplies from, and what follows a product (bias, activation)
is done before its result is stored. Gradients do not pass.

A new kind of layer registers its quick twin with ``@fast.register``; whatever has none keeps its
own code around quick children.
"""

from __future__ import annotations

import copy
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models.fast.onednn import has_onednn, packed_weight, product_with
from worldmodel.models.latents import Point, Remembered
from worldmodel.models.layers import GRUCell, NormedGRUCell

# Activations that oneDNN applies while a product is still in the registers.
FUSED = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh"}


@singledispatch
def fast(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same module with quick children; it shares what else it holds."""
    twin = copy.copy(part)
    twin._modules = {
        name: None if child is None else fast(child, dtype) for name, child in part._modules.items()
    }
    return twin


@fast.register
def _(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    return Product(linear, "none", dtype)


@fast.register
def _(norm: nn.LayerNorm, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(norm).to(dtype).requires_grad_(False)


@fast.register
def _(chain: nn.Sequential, dtype: torch.dtype) -> nn.Module:
    """Each product takes in the activation that follows it."""
    parts: list[nn.Module] = []
    for part in chain:
        before = parts[-1] if parts else None
        if isinstance(before, Product) and before.after == "none" and type(part) in FUSED:
            before.after = FUSED[type(part)]
        elif isinstance(part, nn.SiLU):
            parts.append(nn.SiLU(inplace=True))  # of what nobody else looks at
        else:
            parts.append(fast(part, dtype))
    return nn.Sequential(*parts)


class Product(nn.Module):
    """``x W' + b``, then an activation. Holds no parameters: they are the model's."""

    def __init__(
        self,
        linear: nn.Linear,
        after: str,
        dtype: torch.dtype,
        order: Tensor | slice = slice(None),  # of the outputs
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
    """``Recurrent`` as a plan reads it: without noise no standard deviation is computed."""

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
        # of 1000 rows in bfloat16 faster than addcmul
        return Remembered(context, Point(mean + std * noise.to(self.dtype)))


@fast.register
def _(cell: GRUCell, dtype: torch.dtype) -> nn.Module:
    return FastGRU(cell, dtype)


class FastGRU(nn.Module):
    """``GRUCell``."""

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
    """``NormedGRUCell``, its two gates side by side and the update's shift inside the norm."""

    def __init__(self, cell: NormedGRUCell, dtype: torch.dtype) -> None:
        super().__init__()
        size = cell.gates.out_features // 3
        order = torch.arange(3 * size).reshape(3, size)[[0, 2, 1]].flatten()  # r, z, c
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
