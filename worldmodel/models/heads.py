"""Heads: small networks on a latent's features, each a distribution over one number.

Calling a head gives its mean; ``log_prob`` scores a target. All of them do both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.checks import at_least
from worldmodel.models.layers import Layer, mlp


def symlog(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.expm1(torch.abs(x))


@dataclass(frozen=True)
class TwoHotSettings:
    kind: Literal["twohot"] = "twohot"
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of the head. Larger: it can be more curved a function of the latent, and is
    slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the head's hidden layers. Larger: slower, and more can be learned."""
    bins: Annotated[int, at_least(2)] = 101
    """Bins of the histogram. Larger: a finer histogram, and slower."""

    def build(self, features: int, layer: Layer) -> TwoHot:
        return TwoHot(features, self.layers, self.size, layer, self.bins)


class TwoHot(nn.Module):
    """A histogram over symlog values: a number is divided between the two bins around it.

    The loss does not depend on the scale of the targets, so rewards of 0.01 and of 1000 are learned
    equally well. The last layer starts at zero: the first prediction is exactly 0. The bins are
    TD-MPC2's: 101 over [-10, 10]. Dreamer has 255.
    """

    limit = 10.0

    def __init__(
        self, inputs: int, layers: int, size: int, layer: Layer, bins: int = TwoHotSettings.bins
    ) -> None:
        super().__init__()
        self.bins = bins
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, self.bins)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        centers = torch.linspace(-self.limit, self.limit, self.bins)
        self.register_buffer("centers", (centers - centers.flip(0)) / 2, persistent=False)

    centers: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...]"""
        return self.decode(self.last(self.net(features)).float())

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """[..., F], [...] -> [...]"""
        logits = self.last(self.net(features)).float()
        return (self.encode(target) * functional.log_softmax(logits, -1)).sum(-1)

    def encode(self, target: Tensor) -> Tensor:
        """[...] -> [..., bins], which sums to one"""
        x = symlog(target).clamp(-self.limit, self.limit)
        position = (x + self.limit) * (self.bins - 1) / (2 * self.limit)
        lower = position.floor().clamp(0, self.bins - 2).long()
        share = (position - lower)[..., None]
        first = functional.one_hot(lower, self.bins)
        second = functional.one_hot(lower + 1, self.bins)
        weights: Tensor = first * (1 - share) + second * share
        return weights

    def decode(self, logits: Tensor) -> Tensor:
        """[..., bins] -> [...]"""
        weights = torch.softmax(logits, -1)
        # each bin against its mirror image, so that equal weights give exactly 0
        return symexp(((weights - weights.flip(-1)) * self.centers).sum(-1) / 2)


@dataclass(frozen=True)
class NormalSettings:
    kind: Literal["normal"] = "normal"
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of the head. Larger: it can be more curved a function of the latent, and is
    slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the head's hidden layers. Larger: slower, and more can be learned."""

    def build(self, features: int, layer: Layer) -> Normal:
        return Normal(features, self.layers, self.size, layer)


class Normal(nn.Module):
    """A Gaussian of unit variance: its log-probability is the squared error."""

    def __init__(self, inputs: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...]"""
        mean: Tensor = self.last(self.net(features)).float()
        return mean.squeeze(-1)

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """[..., F], [...] -> [...]"""
        error: Tensor = self(features) - target
        return -0.5 * error.square() - 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class BernoulliSettings:
    kind: Literal["bernoulli"] = "bernoulli"
    layers: Annotated[int, at_least(1)] = 1
    """Hidden layers of the head. Larger: it can be more curved a function of the latent, and is
    slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the head's hidden layers. Larger: slower, and more can be learned."""

    def build(self, features: int, layer: Layer) -> Bernoulli:
        return Bernoulli(features, self.layers, self.size, layer)


class Bernoulli(nn.Module):
    """A Bernoulli distribution: its mean is the probability that the task goes on."""

    def __init__(self, inputs: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, 1)

    def logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.last(self.net(features)).float()
        return logits.squeeze(-1)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...]"""
        return torch.sigmoid(self.logits(features))

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """[..., F], [...] -> [...]"""
        return -functional.binary_cross_entropy_with_logits(
            self.logits(features), target, reduction="none"
        )


class Constant(nn.Module):
    """A head without parameters, whose mean is always ``value``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...]"""
        return torch.full_like(features[..., 0], self.value, dtype=torch.float32)

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """[..., F], [...] -> [...]"""
        return torch.zeros_like(target)


HeadSettings = TwoHotSettings | NormalSettings | BernoulliSettings
Head = TwoHot | Normal | Bernoulli | Constant
