"""Policies on a latent's features: they propose actions to the planner, or act without one.

All take standard normal noise [..., A]; without noise they give their most likely action. Those
that have a distribution also ``draw``, differentiable in the parameters. That returns ``spread``
[..., A], the input of ``entropy``, and ``saturation`` [...], which is positive where the network's
outputs are so large that tanh, sigmoid or softmax pass almost no gradient: a policy that is certain
could otherwise never change again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.checks import at_least, require
from worldmodel.models.layers import Layer, mlp
from worldmodel.models.time_varying import TimeVarying, TimeVaryingSettings


class Drawn(NamedTuple):
    action: Tensor  # [..., A]
    spread: Tensor  # [..., A]
    saturation: Tensor  # [...]


@dataclass(frozen=True)
class PolicySettings:
    offers: ClassVar[frozenset[str]] = frozenset({"drawn policy", "clipped policy"})

    kind: Literal["tanh_normal"] = "tanh_normal"  # categorical if an action is one of A choices
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of the policy. Larger: it can tell apart more situations, and is slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the policy's hidden layers. Larger: slower, and more can be learned."""

    def build(
        self, features: int, action_size: int, has_choices: bool, layer: Layer
    ) -> Policy | CategoricalPolicy:
        policy = CategoricalPolicy if has_choices else Policy
        return policy(features, action_size, self.layers, self.size, layer)


@dataclass(frozen=True)
class SquashedSettings:
    offers: ClassVar[frozenset[str]] = frozenset({"drawn policy", "squashed policy"})

    kind: Literal["squashed"] = "squashed"
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of the policy. Larger: it can tell apart more situations, and is slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the policy's hidden layers. Larger: slower, and more can be learned."""

    def build(
        self, features: int, action_size: int, has_choices: bool, layer: Layer
    ) -> SquashedPolicy:
        require(
            not has_choices,
            "model.policy.kind: squashed gives numbers, and here an action is one of"
            f" {action_size} choices; write model.policy.kind: greedy with behaviour.kind: dqn",
        )
        return SquashedPolicy(features, action_size, self.layers, self.size, layer)


@dataclass(frozen=True)
class GreedySettings:
    offers: ClassVar[frozenset[str]] = frozenset({"greedy policy"})

    kind: Literal["greedy"] = "greedy"
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of the policy. Larger: it can tell apart more situations, and is slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of the policy's hidden layers. Larger: slower, and more can be learned."""

    def build(
        self, features: int, action_size: int, has_choices: bool, layer: Layer
    ) -> GreedyPolicy:
        require(
            has_choices,
            "model.policy.kind: greedy compares the values of choices, and here an action is"
            f" {action_size} number{'s'[: action_size > 1]}; write model.policy.kind: squashed with"
            " behaviour.kind: soft",
        )
        return GreedyPolicy(features, action_size, self.layers, self.size, layer)


class Policy(nn.Module):
    """A Gaussian whose mean is a tanh and whose std is 0.1 to 1; actions are clipped to [-1, 1]."""

    # Outputs further from 0 than these count as saturation.
    mean_reach = 2.0  # a mean of 0.96, where tanh has a fourteenth of its slope
    std_reach = 3.0  # a std between 0.14 and 0.96

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, 2 * action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] -> mean [..., A], std [..., A]"""
        return self._squash(*self._raw(features))

    def draw(self, features: Tensor, noise: Tensor) -> Drawn:
        """[..., F], standard normal [..., A] -> actions and their std"""
        raw_mean, raw_std = self._raw(features)
        mean, std = self._squash(raw_mean, raw_std)
        action = (mean + std * noise).clamp(-1.0, 1.0)
        saturation = beyond(raw_mean, self.mean_reach) + beyond(raw_std, self.std_reach)
        return Drawn(action, std, saturation)

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the mean -> [..., A]"""
        mean, std = self(features)
        drawn: Tensor = mean if noise is None else (mean + std * noise).clamp(-1.0, 1.0)
        return drawn

    def judge(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F], actions [..., A] -> their log-probability [...], and the std [..., A]

        An action at a bound has the probability of everything beyond it, as ``draw`` clips.
        """
        mean, std = self(features)
        apart = (action - mean) / std
        inside = -0.5 * apart.square() - std.log() - 0.5 * math.log(2 * math.pi)
        beyond_bound = torch.special.log_ndtr(-apart * action.sign())
        at_bound = action.abs() >= 1.0
        return torch.where(at_bound, beyond_bound, inside).sum(-1), std

    def _raw(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std before tanh and sigmoid; the policy begins with a std of 0.89."""
        mean, std = self.last(self.net(features)).float().chunk(2, -1)
        return mean, std + 2.0

    @staticmethod
    def _squash(raw_mean: Tensor, raw_std: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(raw_mean), 0.1 + 0.9 * torch.sigmoid(raw_std)

    @staticmethod
    def entropy(std: Tensor) -> Tensor:
        """The std [..., A] -> the entropy [...] before clipping"""
        return (torch.log(std) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class CategoricalPolicy(nn.Module):
    """A categorical policy over A choices, one-hot, mixed with 1 % of the uniform distribution.

    It draws by the Gumbel trick. Standard normal noise, the same as a Gaussian policy's, becomes
    Gumbel noise through the normal distribution function Phi:

        choice = argmax(log p + g),  g = -log(-log Phi(noise))

    The gradient is straight-through: forwards the choice, backwards the probabilities. It is
    biased, but needs no second way of learning: gradients of imagined returns reach the policy
    through the dynamics, as they do for a Gaussian.
    """

    even_share = 0.01  # DreamerV3's: log-probabilities stay finite
    reach = 4.0  # of logits, before saturation counts: e^8 to 1 for the likelier of two choices

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> log-probabilities [..., A]"""
        return self._mix(self.last(self.net(features)).float())

    def draw(self, features: Tensor, noise: Tensor) -> Drawn:
        """[..., F], standard normal [..., A] -> choices and their log-probabilities"""
        logits = self.last(self.net(features)).float()
        spread = self._mix(logits)
        probabilities = spread.exp()
        choices = choose(spread, noise) + (probabilities - probabilities.detach())
        saturation = beyond(logits - logits.mean(-1, keepdim=True), self.reach)
        return Drawn(choices, spread, saturation)

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the most likely -> one-hot [..., A]"""
        spread = self(features)
        return choose(spread, torch.zeros_like(spread) if noise is None else noise)

    def judge(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F], one-hot [..., A] -> its log-probability [...], and those of all choices"""
        spread = self(features)
        return (spread * action).sum(-1), spread

    def _mix(self, logits: Tensor) -> Tensor:
        """Logits [..., A] -> log-probabilities [..., A]"""
        probabilities = logits.softmax(-1)
        even = self.even_share / probabilities.shape[-1]
        return ((1 - self.even_share) * probabilities + even).log()

    @staticmethod
    def entropy(spread: Tensor) -> Tensor:
        """Log-probabilities [..., A] -> [...]"""
        return -(spread.exp() * spread).sum(-1)


class SquashedPolicy(nn.Module):
    """The tanh of a Gaussian: actions are inside of (-1, 1), and have a density everywhere.

    action = tanh(u), u ~ N(mean, std),  log p(action) = log N(u) - sum log(1 - tanh(u)^2)
    """

    low, high = -5.0, 2.0  # of log std, as in soft actor-critic's published code
    reach = 3.0  # of u, before saturation counts: tanh has a hundredth of its slope there

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, 2 * action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] -> mean and std of u: [..., A] each"""
        mean, raw = self.last(self.net(features)).float().chunk(2, -1)
        share = 0.5 * (torch.tanh(raw + 0.4) + 1)  # a new policy has a std of about 0.8
        return mean, torch.exp(self.low + (self.high - self.low) * share)

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F], standard normal [..., A] -> actions [..., A] and their log-density [...]"""
        mean, std = self(features)
        u = mean + std * noise
        normal = -0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) without cancellation
        slope = 2 * (math.log(2) - u - functional.softplus(-2 * u))
        return torch.tanh(u), (normal - slope).sum(-1)

    def draw(self, features: Tensor, noise: Tensor) -> Drawn:
        """[..., F], standard normal [..., A] -> actions and the std of u"""
        mean, std = self(features)
        return Drawn(torch.tanh(mean + std * noise), std, beyond(mean, self.reach))

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F], standard normal [..., A] or None for the middle -> [..., A]"""
        mean, std = self(features)
        drawn: Tensor = torch.tanh(mean if noise is None else mean + std * noise)
        return drawn

    @staticmethod
    def entropy(std: Tensor) -> Tensor:
        """The std [..., A] -> the entropy [...] before the tanh"""
        return Policy.entropy(std)


class GreedyPolicy(nn.Module):
    """The choice with the highest value Q: it learns the values, and has no chance of its own."""

    def __init__(self, inputs: int, action_size: int, layers: int, size: int, layer: Layer) -> None:
        super().__init__()
        self.net = mlp(inputs, size, layers, layer)
        self.last = nn.Linear(size, action_size)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> the value of each choice [..., A]"""
        values: Tensor = self.last(self.net(features)).float()
        return values

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[..., F] -> one-hot [..., A]; noise changes nothing"""
        values = self(features)
        return functional.one_hot(values.argmax(-1), values.shape[-1]).to(values)


def beyond(raw: Tensor, reach: float) -> Tensor:
    """The squared distance of numbers to [-reach, reach], summed: [..., A] -> [...]"""
    return (raw.abs() - reach).relu().square().sum(-1)


def choose(log_probabilities: Tensor, noise: Tensor) -> Tensor:
    """[..., A], standard normal [..., A] -> one-hot [..., A]; equal noise gives the most likely"""
    gumbel = -torch.log(-torch.special.log_ndtr(noise))
    place = (log_probabilities + gumbel).argmax(-1)
    return functional.one_hot(place, noise.shape[-1]).to(log_probabilities)


DrawnPolicy = Policy | CategoricalPolicy | SquashedPolicy
AnyPolicy = DrawnPolicy | GreedyPolicy | TimeVarying
PolicyKinds = PolicySettings | SquashedSettings | GreedySettings | TimeVaryingSettings
