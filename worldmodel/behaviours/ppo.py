"""PPO: a policy learns from the episodes that it has just played, in small steps.

Schulman et al. 2017, arXiv 1707.06347.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.behaviours.behaviour import Loss, ParameterGroup, Reads
from worldmodel.behaviours.returns import advantages
from worldmodel.behaviours.slow import load, named
from worldmodel.behaviours.transitions import believed
from worldmodel.checks import at_least, between, more_than
from worldmodel.machine import Precision
from worldmodel.models import WorldModel
from worldmodel.models.policy import CategoricalPolicy, Policy
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class PPO:
    """Settings of a policy that learns from its own newest episodes, on latents' features."""

    needs: ClassVar[frozenset[str]] = frozenset({"clipped policy", "head:value"})
    reads: ClassVar[Reads] = "newest"
    # What acts must be the policy itself, as it is now.
    requires: ClassVar[dict[str, Any]] = {
        "planner": None,
        "exploration.kind": "policy",
        "learner.average_rate": 1.0,
        "loop.seed_updates": 0,
    }

    kind: Literal["ppo"] = "ppo"
    clip: Annotated[float, more_than(0)] = 0.2
    """How far an action's probability may move from that of the policy that acted, as a share.
    Larger: bigger steps, and surer to overshoot."""
    return_lambda: Annotated[float, between(0, 1)] = 0.95
    """How far real rewards are trusted beyond the value: 1 uses all of them, 0 only the first and
    the value."""
    entropy: Annotated[float, at_least(0)] = 0.01
    """Weight of the policy's entropy. Larger: its actions vary more."""
    value_rate: Annotated[float, more_than(0)] = 1e-3
    """Learning rate of the value. Larger: it follows new returns faster, and may oscillate."""
    policy_rate: Annotated[float, more_than(0)] = 3e-4
    """Learning rate of the policy. Larger: it changes faster, and may settle too early."""

    def build(
        self, model: WorldModel, discount_rate: float, precision: Precision
    ) -> ProximalPolicy:
        return ProximalPolicy(self, model, discount_rate)


class ProximalPolicy:
    """It keeps copies of posterior, policy and value as they were when they acted.

    ratio = pi(action) / pi_acted(action), which is 1 before the first step and leaves 1 after it:
    pi_acted is a copy, so no gradient passes it, and it does not move with pi. The posterior's
    network stands between the encoder's features and the policy, so it is a part of pi: it learns
    from the losses of both, also where no term of the objective reaches it.
    """

    def __init__(self, settings: PPO, model: WorldModel, discount_rate: float) -> None:
        assert isinstance(model.policy, Policy | CategoricalPolicy)
        assert isinstance(model.posterior, nn.Module)
        self.settings, self.model, self.policy = settings, model, model.policy
        self.posterior = model.posterior
        self.discount_rate = discount_rate
        self.acted_posterior = copy.deepcopy(self.posterior).requires_grad_(False)
        self.acted_policy = copy.deepcopy(model.policy).requires_grad_(False)
        self.acted_value = copy.deepcopy(model.value).requires_grad_(False)
        self.first_episode = 0

    @property
    def tunes(self) -> list[nn.Parameter]:
        return [*self.posterior.parameters()]

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup([*self.model.value.parameters()], self.settings.value_rate),
            ParameterGroup([*self.policy.parameters()], self.settings.policy_rate),
        ]

    def acted(self, first_episode: int) -> None:
        """The policy as it is now has played the episodes from this number on."""
        self.acted_posterior.load_state_dict(self.posterior.state_dict())
        self.acted_policy.load_state_dict(self.policy.state_dict())
        self.acted_value.load_state_dict(self.model.value.state_dict())
        self.first_episode = first_episode

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        settings, batch = self.settings, seen.batch
        self._refuse_older(batch.window)
        features = believed(self.model, seen, tunes=True)  # [B, T, F]
        then, action = features[:, :-1], batch.action[:, 1:]  # the action that followed a row
        counts = batch.valid[:, 1:]  # [B, T - 1] the rows that an action followed
        with torch.no_grad():
            acted = self._acted_features(seen)
            old, _ = self.acted_policy.judge(acted[:, :-1], action)
            value = self.acted_value(acted)
            discount = self.discount_rate * batch.discount
            gains = advantages(batch.reward, discount, value, batch.valid, settings.return_lambda)
            returns = gains + value[:, :-1]
            gains = (gains - gains[counts].mean()) / (gains[counts].std() + 1e-6)
        log_prob, spread = self.policy.judge(then, action)
        ratio = (log_prob - old).exp()
        near = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        entropy = self.policy.entropy(spread)  # over all actions, not the one taken
        better = torch.minimum(ratio * gains, near * gains) + settings.entropy * entropy
        value_loss = -self.model.value.log_prob(then, returns)
        losses = [
            Loss("policy", -better[counts].mean(), [*self.policy.parameters(), *self.tunes]),
            Loss("value", value_loss[counts].mean(), [*self.model.value.parameters(), *self.tunes]),
        ]
        figures = {
            "entropy": entropy.detach()[counts].mean(),
            "ratio": (ratio.detach() - 1)[counts].abs().mean() + 1,
            "return": returns[counts].mean(),
        }
        return losses, figures

    def stepped(self) -> None:
        """Nothing: the copies change when the policy has acted."""

    def state(self) -> dict[str, Tensor]:
        return {
            **named(self.acted_posterior, "acted_posterior"),
            **named(self.acted_policy, "acted_policy"),
            **named(self.acted_value, "acted_value"),
            "first_episode": torch.tensor(self.first_episode),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        load(self.acted_posterior, "acted_posterior", state)
        load(self.acted_policy, "acted_policy", state)
        load(self.acted_value, "acted_value", state)
        self.first_episode = int(state["first_episode"])

    def _acted_features(self, seen: Inference) -> Tensor:
        """What the policy read when it acted, in a batch's rows: [B, T, F]"""
        acting, batch = self.acted_posterior.acting, seen.batch
        assert acting is not None  # an agent refuses such a model
        return self.model.follow(acting, batch.action, seen.embeds, batch.valid, None)[1].features

    def _refuse_older(self, window: Tensor) -> None:
        """Raise if a batch holds episodes that an earlier policy has played."""
        oldest = int(window[:, 0].min()) if len(window) else self.first_episode
        if oldest < self.first_episode:
            raise ValueError(
                f"behaviour: ppo learns from the newest episodes only, from number"
                f" {self.first_episode} on, and episode {oldest} of this batch was played by an"
                " earlier policy; draw it with replay.sample(random, behaviour.first_episode), or"
                " choose behaviour.kind: imagined"
            )
