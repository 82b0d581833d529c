"""A model as lists of plain operations on vectors, for programs that have no PyTorch.

There is a list for each of the functions that imagination needs::

    step      state, action -> state
    image     state -> bytes, row by row, the channels of a pixel next to each other
    reward, value, goes_on      state -> one number
    act       state -> the policy's most likely action

An operation reads vectors by their names and writes one; the last one of a list is its result. An
image is a vector too. ``state`` is the flat state of the dynamics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.checks import ConfigError
from worldmodel.models.decoders import PlanetDecoder, SlimDecoder
from worldmodel.models.dynamics import Recurrent
from worldmodel.models.fast.convolutions import Doubling, FewPixels, FromOnePixel, Transposed
from worldmodel.models.fast.onednn import Linear
from worldmodel.models.heads import Bernoulli, Constant, Normal, TwoHot
from worldmodel.models.layers import ChannelNorm, GRUCell, NormedGRUCell
from worldmodel.models.likelihoods import BernoulliPixels
from worldmodel.models.policy import CategoricalPolicy, GreedyPolicy, Policy, SquashedPolicy
from worldmodel.models.world import WorldModel

STATE, ACTION = "state", "action"  # the names of the vectors that are given


@dataclass(frozen=True)
class Operations:
    """``lists`` by the name of their function; a tensor in an operation is its place here."""

    lists: dict[str, list[dict[str, Any]]]
    tensors: list[Tensor]


class Recorder:
    """Collects the operations of one function."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.operations: list[dict[str, Any]] = []
        self._tensors = tensors

    def add(self, do: str, *of: str, **settings: Tensor | float | int | None) -> str:
        """Add an operation on the vectors ``of``; returns the name of its result."""
        name = f"{do} {len(self.operations)}"
        stored = {key: self._stored(value) for key, value in settings.items() if value is not None}
        self.operations.append({"do": do, "of": list(of), "to": name, **stored})
        return name

    def _stored(self, value: Tensor | float | int) -> float | int:
        if not isinstance(value, Tensor):
            return value
        self._tensors.append(value.detach().float().cpu())
        return len(self._tensors) - 1


def list_operations(model: WorldModel) -> Operations:
    """The operations of a model; ConfigError names a part that has no such operations."""
    tensors: list[Tensor] = []
    functions: dict[str, Callable[[Recorder], str]] = {
        "step": lambda to: _dynamics(model.dynamics, to),
        "image": lambda to: _image(model, to),
        "reward": lambda to: record(model.reward, STATE, to),
        "value": lambda to: record(model.slow_value, STATE, to),
        "goes_on": lambda to: record(model.discount, STATE, to),
        "act": lambda to: record(model.policy, STATE, to),
    }
    absent = {
        "reward": isinstance(model.reward, Constant),
        "value": isinstance(model.slow_value, Constant),
        "goes_on": isinstance(model.discount, Constant),
        "act": model.policy is None,
    }
    lists = {}
    for name, function in functions.items():
        if not absent.get(name, False):
            recorder = Recorder(tensors)
            function(recorder)
            lists[name] = recorder.operations
    return Operations(lists, tensors)


def record(part: Any, x: str, to: Recorder) -> str:
    """Record what a part does with the vector ``x``; returns the name of the result."""
    known = RECORDED.get(type(part))  # a subclass may compute something else
    if known is None:
        raise _unknown(part)
    return known(part, x, to)


def _unknown(part: Any) -> ConfigError:
    return ConfigError(
        f"html: {type(part).__name__} has no plain operations (worldmodel/models/operations.py), so"
        " a page cannot compute it; leave --html out, and the model itself answers the page"
    )


def _dense(linear: nn.Linear, x: str, to: Recorder) -> str:
    return to.add("dense", x, weight=linear.weight, bias=linear.bias)


def _norm(norm: nn.LayerNorm, x: str, to: Recorder) -> str:
    """LayerNorm of each group of as many successive numbers as it has weights."""
    return to.add("norm", x, weight=norm.weight, bias=norm.bias, epsilon=norm.eps)


def _chain(chain: nn.Sequential, x: str, to: Recorder) -> str:
    for part in chain:
        x = record(part, x, to)
    return x


def _transposed(layer: Transposed, x: str, to: Recorder) -> str:
    padding = int(layer.padding[0])
    return to.add("transposed", x, weight=layer.weight, bias=layer.bias, padding=padding)


def _slim(decoder: SlimDecoder, x: str, to: Recorder) -> str:
    start, grid = decoder.start, decoder.grid
    order = torch.arange(start.out_features)
    by_pixel = rearrange(order, "(c h w) -> (h w c)", h=grid, w=grid)  # channels of a pixel last
    x = to.add("dense", x, weight=start.weight[by_pixel], bias=start.bias[by_pixel])
    return _chain(decoder.net, x, to)


def _planet(decoder: PlanetDecoder, x: str, to: Recorder) -> str:
    """Its first two layers as one product, as in ``FromOnePixel.after``."""
    start, (first, *rest) = decoder.start, decoder.net
    assert isinstance(first, FromOnePixel)
    assert first.bias is not None
    kernel = rearrange(first.weight, "f d k l -> f (k l d)")
    bias = start.bias @ kernel + first.bias.repeat(kernel.shape[1] // len(first.bias))
    x = to.add("dense", x, weight=(start.weight.t() @ kernel).t(), bias=bias)
    return _chain(nn.Sequential(*rest), x, to)


def _two_hot(head: TwoHot, x: str, to: Recorder) -> str:
    logits = _dense(head.last, record(head.net, x, to), to)
    return to.add("twohot", logits, centers=head.centers)


def _normal(head: Normal, x: str, to: Recorder) -> str:
    return _dense(head.last, record(head.net, x, to), to)


def _bernoulli(head: Bernoulli, x: str, to: Recorder) -> str:
    return to.add("sigmoid", _dense(head.last, record(head.net, x, to), to))


def _policy(policy: Policy | SquashedPolicy, x: str, to: Recorder) -> str:
    """The mean, which is the first half of the network's outputs."""
    weight, bias = policy.last.weight, policy.last.bias
    size = len(weight) // 2
    raw = to.add("dense", record(policy.net, x, to), weight=weight[:size], bias=bias[:size])
    return to.add("tanh", raw)


def _choices(policy: CategoricalPolicy | GreedyPolicy, x: str, to: Recorder) -> str:
    return to.add("choose", _dense(policy.last, record(policy.net, x, to), to))


RECORDED: dict[type, Callable[[Any, str, Recorder], str]] = {
    nn.Linear: _dense,
    Linear: _dense,
    nn.LayerNorm: _norm,
    ChannelNorm: lambda part, x, to: _norm(part.norm, x, to),
    nn.SiLU: lambda part, x, to: to.add("silu", x),
    nn.ReLU: lambda part, x, to: to.add("relu", x),
    nn.Sequential: _chain,
    Transposed: _transposed,
    FewPixels: _transposed,
    Doubling: _transposed,
    SlimDecoder: _slim,
    PlanetDecoder: _planet,
    TwoHot: _two_hot,
    Normal: _normal,
    Bernoulli: _bernoulli,
    Policy: _policy,
    SquashedPolicy: _policy,
    CategoricalPolicy: _choices,
    GreedyPolicy: _choices,
}


def _dynamics(dynamics: Any, to: Recorder) -> str:
    """The next state by the prior's mean, as ``Recurrent.step`` computes it."""
    if type(dynamics) is not Recurrent:
        raise _unknown(dynamics)
    deter, stoch = dynamics.deter_size, dynamics.stoch_size
    memory = to.add("slice", STATE, begin=0, end=deter)
    drawn = to.add("slice", STATE, begin=deter, end=deter + stoch)
    joined = record(dynamics.join, to.add("concat", drawn, ACTION), to)
    memory = _cell(dynamics.cell, joined, memory, to)
    hidden, last = dynamics.prior
    assert isinstance(last, nn.Linear)
    mean = to.add(
        "dense", record(hidden, memory, to), weight=last.weight[:stoch], bias=last.bias[:stoch]
    )
    return to.add("concat", memory, mean)


def _cell(cell: GRUCell | NormedGRUCell, x: str, h: str, to: Recorder) -> str:
    gates = _dense(cell.gates, to.add("concat", x, h), to)
    if isinstance(cell, NormedGRUCell):
        size = cell.gates.out_features // 3
        gates = _norm(cell.norm, gates, to)
        reset, candidate, update = _parts(gates, 3, size, to)
        reset = to.add("sigmoid", reset)
        candidate = to.add("tanh", to.add("multiply", reset, candidate))
        return to.add("lerp", h, candidate, to.add("sigmoid", to.add("shift", update, by=-1.0)))
    size = cell.gates.out_features // 2
    reset, update = _parts(to.add("sigmoid", gates), 2, size, to)
    again = to.add("concat", x, to.add("multiply", reset, h))
    candidate = to.add("tanh", _dense(cell.candidate, again, to))
    return to.add("lerp", candidate, h, update)


def _parts(x: str, count: int, size: int, to: Recorder) -> list[str]:
    return [to.add("slice", x, begin=i * size, end=(i + 1) * size) for i in range(count)]


def _image(model: WorldModel, to: Recorder) -> str:
    drawn = record(model.decoder, STATE, to)
    if isinstance(model.likelihood, BernoulliPixels):
        shares = to.add("sigmoid", drawn)
        return to.add("bytes", shares, mean=torch.zeros_like(model.pixels.mean), scale=1.0)
    return to.add("bytes", drawn, mean=model.pixels.mean, scale=float(model.pixels.scale))
