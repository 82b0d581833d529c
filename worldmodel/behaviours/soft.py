"""Soft actor-critic on the latent: values and policy learn from real rows, nothing is imagined."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.behaviours.behaviour import Loss, ParameterGroup, Reads
from worldmodel.behaviours.slow import follow, load, named
from worldmodel.behaviours.transitions import Transitions, believed, encoder_of, transitions
from worldmodel.checks import at_least, more_than
from worldmodel.machine import Precision
from worldmodel.models import WorldModel
from worldmodel.models.layers import mlp, normed
from worldmodel.models.policy import SquashedPolicy
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Soft:
    """Settings of soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    needs: ClassVar[frozenset[str]] = frozenset({"squashed policy"})

    reads: ClassVar[Reads] = "replayed"

    kind: Literal["soft"] = "soft"
    tunes_encoder: bool = True
    """Whether the critics' error also changes the encoder, next to the objective. The policy's
    gradient never does."""
    layers: Annotated[int, at_least(1)] = 2
    """Hidden layers of each critic. Larger: values can be more curved, and are slower."""
    size: Annotated[int, at_least(1)] = 256
    """Width of each critic's hidden layers. Larger: slower, and more can be learned."""
    reward_scale: Annotated[float, more_than(0)] = 1.0
    """Factor of rewards before critics learn them. Larger: larger errors, which change the encoder
    more, and rewards count more than randomness at first."""
    first_temperature: Annotated[float, more_than(0)] = 0.1
    """Weight of the policy's entropy at first, before it is learned. Larger: it begins more
    random."""
    target_rate: Annotated[float, more_than(0, at_most=1)] = 0.01
    """How fast the slow copies of the critics, which targets are made of, follow them. 1: they are
    the critics themselves."""
    critic_rate: Annotated[float, more_than(0)] = 1e-3
    """Learning rate of the critics. Larger: they follow new rewards faster, and may oscillate."""
    policy_rate: Annotated[float, more_than(0)] = 1e-3
    """Learning rate of policy and temperature. Larger: they change faster."""

    def build(
        self, model: WorldModel, discount_rate: float, precision: Precision
    ) -> SoftActorCritic:
        return SoftActorCritic(self, model, discount_rate)


class Critics(nn.Module):
    """Two values of an action, each of a network of its own: their smaller one is not too high."""

    def __init__(self, inputs: int, layers: int, size: int) -> None:
        super().__init__()
        self.both = nn.ModuleList(
            nn.Sequential(mlp(inputs, size, layers, normed), nn.Linear(size, 1)) for _ in range(2)
        )

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[..., F], [..., A] -> [2, ...]"""
        joined = torch.cat([features, action], -1)
        return torch.stack([critic(joined).squeeze(-1) for critic in self.both])


class SoftActorCritic:
    """Two critics, a policy and a temperature, which learn together::

    target   = reward + discount (min Q_slow(s', a') - temperature log p(a' | s')),  a' drawn
    critics  : (Q(s, a) - target)^2                     into critics, perhaps the encoder
    policy   : temperature log p(a | s) - min Q(s, a)   into the policy, a drawn
    temperature: until the policy's entropy is minus the number of action's parts
    """

    def __init__(self, settings: Soft, model: WorldModel, discount_rate: float) -> None:
        assert isinstance(model.policy, SquashedPolicy)
        self.settings, self.model, self.policy = settings, model, model.policy
        self.discount_rate = discount_rate
        self.first_episode = 0
        device = next(model.parameters()).device
        action_size = model.spec.action_size
        inputs = model.dynamics.feature_size + action_size
        self.critics = Critics(inputs, settings.layers, settings.size).to(device)
        self.slow = copy.deepcopy(self.critics).requires_grad_(False)
        first = torch.tensor(settings.first_temperature, device=device).log()
        self.log_temperature = nn.Parameter(first)
        self.wanted_entropy = -float(action_size)

    @property
    def tunes(self) -> list[nn.Parameter]:
        return encoder_of(self.model) if self.settings.tunes_encoder else []

    def groups(self) -> list[ParameterGroup]:
        settings = self.settings
        return [
            ParameterGroup([*self.critics.parameters()], settings.critic_rate),
            ParameterGroup([*self.policy.parameters()], settings.policy_rate),
            ParameterGroup([self.log_temperature], settings.policy_rate),
        ]

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        features = believed(self.model, seen, self.settings.tunes_encoder)
        rows = transitions(features, seen)
        target = self.target(rows, random)
        values = self.critics(rows.before, rows.action)  # [2, M]
        critic_loss = (values - target).square().mean(1).sum()

        states = rows.before.detach()  # no gradient of the policy's loss passes to the encoder
        action, log_prob = self.policy.sample(states, self._noise(states, random))
        temperature = self.log_temperature.exp()
        gain = self.critics(states, action).amin(0) - temperature.detach() * log_prob
        too_certain = (log_prob + self.wanted_entropy).detach()
        losses = [
            Loss("critic", critic_loss, [*self.critics.parameters(), *self.tunes]),
            Loss("policy", -gain.mean(), [*self.policy.parameters()]),
            Loss("temperature", -temperature * too_certain.mean(), [self.log_temperature]),
        ]
        figures = {
            "entropy": -log_prob.detach().mean(),
            "randomness_weight": temperature.detach(),
            "critic_value": values.detach().mean(),
        }
        return losses, figures

    @torch.no_grad()
    def target(self, rows: Transitions, random: torch.Generator) -> Tensor:
        """What the critics should say of each row: [M]"""
        action, log_prob = self.policy.sample(rows.after, self._noise(rows.after, random))
        ahead = self.slow(rows.after, action).amin(0) - self.log_temperature.exp() * log_prob
        reward = self.settings.reward_scale * rows.reward
        target: Tensor = reward + self.discount_rate * rows.discount * ahead
        return target

    def acted(self, first_episode: int) -> None:
        """Nothing: rows that any policy played are learned from."""

    def stepped(self) -> None:
        follow(self.slow, self.critics, self.settings.target_rate)

    def state(self) -> dict[str, Tensor]:
        return {
            **named(self.critics, "critics"),
            **named(self.slow, "slow"),
            "log_temperature": self.log_temperature.detach(),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        load(self.critics, "critics", state)
        load(self.slow, "slow", state)
        self.log_temperature.copy_(state["log_temperature"])

    def _noise(self, features: Tensor, random: torch.Generator) -> Tensor:
        shape = (*features.shape[:-1], self.model.spec.action_size)
        return torch.randn(shape, generator=random, device=features.device)
