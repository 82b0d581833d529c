"""A model as planners call it: the same verbs and weights, as fast as this machine multiplies."""

from __future__ import annotations

import copy
import operator
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models.layers import GRUCell, NormedGRUCell
from worldmodel.models.products import has_onednn
from worldmodel.models.world import WorldModel
from worldmodel.structs import Latent

M = TypeVar("M", bound=nn.Module)

# Of an activation that oneDNN applies while a product is still in the registers.
FUSED = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh"}
PLANNED = ("dynamics", "reward", "discount", "slow_value", "policy")


def plan_dtype(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the machine multiplies it faster: asked, not assumed."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    features = torch.cpu.get_capabilities()
    fast = features.get("amx_bf16") or features.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def packed(model: WorldModel, dtype: torch.dtype) -> Packed:
    """``model`` as it is now; packed anew only where it has changed since the last call.

    Weights are compared with a copy, which takes a tenth of the packing. Their version counters
    would be cheaper, and miss the steps of torch's fused optimizers.
    """
    parts = [child for name, child in model.named_children() if name in PLANNED]
    weights = [weight for part in parts for weight in part.parameters()]
    kept = _KEPT.get(model)
    if kept is None or not kept.fits(dtype, parts, weights):
        kept = _KEPT[model] = _Kept(
            dtype, parts, [weight.detach().clone() for weight in weights], Packed(model, dtype)
        )
    return kept.packed


@dataclass(frozen=True)
class _Kept:
    """A packed model, and what it was made from."""

    dtype: torch.dtype
    parts: list[nn.Module]
    weights: list[Tensor]
    packed: Packed

    def fits(self, dtype: torch.dtype, parts: list[nn.Module], weights: Sequence[Tensor]) -> bool:
        return (
            dtype == self.dtype
            and len(weights) == len(self.weights)
            and all(map(operator.is_, parts, self.parts))
            and all(a.device == b.device for a, b in zip(weights, self.weights, strict=True))
            and all(map(torch.equal, weights, self.weights))
        )


_KEPT: weakref.WeakKeyDictionary[WorldModel, _Kept] = weakref.WeakKeyDictionary()


class Packed:
    """What a planner asks of a model, as fast as this machine multiplies in ``dtype``.

    A plan is products of many candidates with the same few weights, again and again. So each
    weight is put once into the layout that oneDNN multiplies from, and what follows a product
    (bias, activation) is done before its result is stored. Latents stay in ``dtype`` from row to
    row, heads answer in float32. Gradients do not pass. Whatever is made of other parts than
    these works as it did.
    """

    def __init__(self, model: WorldModel, dtype: torch.dtype) -> None:
        self.dtype = dtype
        is_known = isinstance(model.dynamics, Recurrent)
        self.step = (PackedRecurrent if is_known else PackedDynamics)(model.dynamics, dtype)
        self.reward = _pack(model.reward, dtype)
        self.discount = _pack(model.discount, dtype)
        self.slow_value = _pack(model.slow_value, dtype)
        self.policy = None if model.policy is None else _pack(model.policy, dtype)

    def imagine(self, latent: Latent, actions: Tensor, noise: Tensor | None) -> Tensor:
        """latent [...], actions [..., L, A], noise [..., L, S] -> features [..., L, F]"""
        deter, stoch = latent.deter.to(self.dtype), latent.stoch.to(self.dtype)
        drawn = [None] * actions.shape[-2] if noise is None else noise.to(self.dtype).unbind(-2)
        rows = []
        for action, draw in zip(actions.to(self.dtype).unbind(-2), drawn, strict=True):
            deter, stoch = self.step(deter, stoch, action, draw)
            rows += [deter, stoch]
        return torch.cat(rows, -1).reshape(*actions.shape[:-1], -1)

    def follow(self, latent: Latent, noise: Tensor) -> Tensor:
        """What the policy does from ``latent`` [...] on, by its noise [..., L, A]: [..., L, A]"""
        assert self.policy is not None
        deter, stoch = latent.deter.to(self.dtype), latent.stoch.to(self.dtype)
        actions = []
        for draw in noise.unbind(-2):
            action = self.policy.act(torch.cat([deter, stoch], -1), draw)
            actions.append(action)
            deter, stoch = self.step(deter, stoch, action.to(self.dtype), None)
        return torch.stack(actions, -2)


def _pack(part: M, dtype: torch.dtype) -> M:
    """The same module with faster layers; it shares what else it holds."""
    return cast(M, _packed_module(part, dtype))


def _packed_module(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    match part:
        case nn.Linear():
            return Product(part, "none", dtype)
        case nn.LayerNorm():
            return copy.deepcopy(part).to(dtype).requires_grad_(False)
        case nn.Sequential():
            return _pack_chain(part, dtype)
        case GRUCell():
            return PackedGRU(part, dtype)
        case NormedGRUCell():
            return PackedNormedGRU(part, dtype)
    twin = copy.copy(part)
    twin._modules = {
        name: None if child is None else _pack(child, dtype)
        for name, child in part._modules.items()
    }
    return twin


def _pack_chain(chain: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """Every product with the activation that follows it."""
    parts: list[nn.Module] = []
    for part in chain:
        before = parts[-1] if parts else None
        if isinstance(before, Product) and before.after == "none" and type(part) in FUSED:
            before.after = FUSED[type(part)]
        elif isinstance(part, nn.SiLU):
            parts.append(nn.SiLU(inplace=True))  # of what nobody else looks at
        else:
            parts.append(_pack(part, dtype))
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
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] of any dtype -> [..., O] of this one"""
        if x.dtype != self.dtype:
            x = x.to(self.dtype)
        if self.is_packed:
            multiply = torch.ops.mkldnn._linear_pointwise
            return cast(Tensor, multiply(x, self.weight, self.bias, self.after, [], ""))
        product = functional.linear(x, self.weight, self.bias)
        return product if self.after == "none" else getattr(torch, f"{self.after}_")(product)


class PackedRecurrent(nn.Module):
    """``Recurrent.imagine_step``, of what a plan reads: without noise no deviation is computed."""

    def __init__(self, dynamics: Recurrent, dtype: torch.dtype) -> None:
        super().__init__()
        hidden, last = dynamics.prior
        assert isinstance(last, nn.Linear)
        size = dynamics.stoch_size
        self.join = _pack(dynamics.join, dtype)
        self.cell = _pack(dynamics.cell, dtype)
        self.hidden = _pack(hidden, dtype)
        self.mean = Product(last, "none", dtype, slice(size))
        self.raw_std = Product(last, "none", dtype, slice(size, 2 * size))
        self.min_std = dynamics.min_std

    def forward(
        self, deter: Tensor, stoch: Tensor, action: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[..., D], [..., S], [..., A], [..., S] -> the next [..., D] and [..., S]"""
        deter = self.cell(self.join(torch.cat([stoch, action], -1)), deter)
        hidden = self.hidden(deter)
        mean: Tensor = self.mean(hidden)
        if noise is None:
            return deter, mean
        std = functional.softplus(self.raw_std(hidden)) + self.min_std
        return deter, mean + std * noise  # of 1000 rows in bfloat16 faster than addcmul


class PackedDynamics(nn.Module):
    """Any other dynamics: what they are made of is packed, what they do is theirs."""

    def __init__(self, dynamics: Recurrent, dtype: torch.dtype) -> None:
        super().__init__()
        self.dynamics = _pack(dynamics, dtype)

    def forward(
        self, deter: Tensor, stoch: Tensor, action: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[..., D], [..., S], [..., A], [..., S] -> the next [..., D] and [..., S]"""
        before = Latent(deter, stoch, mean=stoch, std=torch.ones_like(stoch))
        after = self.dynamics.imagine_step(before, action, noise)
        return after.deter, after.stoch


class PackedGRU(nn.Module):
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


class PackedNormedGRU(nn.Module):
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
