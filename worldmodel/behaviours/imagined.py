"""Actor and critic in imagination: returns that the model imagines train value and policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.behaviours.behaviour import Loss, ParameterGroup, Reads
from worldmodel.behaviours.returns import lambda_returns
from worldmodel.checks import at_least, between, more_than
from worldmodel.machine import Precision
from worldmodel.models import WorldModel
from worldmodel.models.policy import DrawnPolicy
from worldmodel.models.roll import imagined_rows
from worldmodel.models.world import Inference
from worldmodel.structs import Latent, at, flatten


@dataclass(frozen=True)
class Imagined:
    """Settings of an actor and a critic that learn from imagined returns."""

    needs: ClassVar[frozenset[str]] = frozenset(
        {"drawn policy", "head:value", "head:reward", "dynamics"}
    )

    reads: ClassVar[Reads] = "replayed"

    kind: Literal["imagined"] = "imagined"
    imagined_states: Annotated[int, at_least(1)] = 96
    """Rows of a batch from which the policy imagines on. Larger: steadier gradients, and slower
    updates."""
    horizon: Annotated[int, at_least(1)] = 5
    """Actions that are imagined from each of these rows. Larger: the policy sees later rewards, and
    more of the model's errors."""
    return_lambda: Annotated[float, between(0, 1)] = 0.95
    """How far imagined rewards are trusted beyond the value: 1 uses all of them, 0 only the first
    and the value."""
    entropy: Annotated[float, at_least(0)] = 1e-3
    """Weight of the policy's entropy. Larger: its actions vary more."""
    saturation: Annotated[float, at_least(0)] = 0.1
    """Weight that keeps the policy's outputs from growing so large that it no longer learns.
    Larger: it stays less certain."""
    target_rate: Annotated[float, more_than(0, at_most=1)] = 0.1
    """How fast the slow copy of the value, which returns end with, follows the value. 1: it is the
    value itself."""
    value_rate: Annotated[float, more_than(0)] = 1e-3
    """Learning rate of the value. Larger: it follows new returns faster, and may oscillate."""
    policy_rate: Annotated[float, more_than(0)] = 3e-4
    """Learning rate of the policy. Larger: it changes faster, and may settle too early."""

    def build(self, model: WorldModel, discount_rate: float, precision: Precision) -> ActorCritic:
        return ActorCritic(self, model, discount_rate, precision)


class ActorCritic:
    """The losses of policy and value; it keeps a moving 5th and 95th percentile of returns."""

    def __init__(
        self, settings: Imagined, model: WorldModel, discount_rate: float, precision: Precision
    ) -> None:
        assert isinstance(model.policy, DrawnPolicy)
        self.settings, self.model, self.policy = settings, model, model.policy
        self.discount_rate, self.precision = discount_rate, precision
        self.first_episode = 0
        self.return_range = torch.zeros(2, device=next(model.parameters()).device)

    @property
    def tunes(self) -> list[nn.Parameter]:
        return []

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup([*self.model.value.parameters()], self.settings.value_rate),
            ParameterGroup([*self.policy.parameters()], self.settings.policy_rate),
        ]

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        settings, policy, value = self.settings, self.policy, self.model.value
        rows = seen.batch.valid.flatten().nonzero().squeeze(-1)
        order = torch.randperm(len(rows), generator=random, device=rows.device)
        starts = at(flatten(seen.posterior), rows[order[: settings.imagined_states]])
        with self.precision():
            imagined = act_in_imagination(
                self.model,
                policy,
                starts,
                horizon=settings.horizon,
                return_lambda=settings.return_lambda,
                discount_rate=self.discount_rate,
                generator=random,
            )
        returns = imagined.returns.detach()
        scale = self._scale(returns)

        entropy = policy.entropy(imagined.spread)
        gain = imagined.returns / scale + settings.entropy * entropy
        gain = gain - settings.saturation * imagined.saturation
        policy_loss = -(imagined.weights * gain).mean()
        with self.precision():
            log_prob = value.log_prob(imagined.features[:, :-1].detach(), returns)
        value_loss = -(imagined.weights * log_prob).mean()
        # The policy's gradient goes through the world model's parameters, and never into them.
        losses = [
            Loss("policy", policy_loss, [*policy.parameters()]),
            Loss("value", value_loss, [*value.parameters()]),
        ]
        figures = {
            "entropy": entropy.detach().mean(),
            "saturation": imagined.saturation.detach().mean(),
            "imagined_return": returns.mean(),
            "return_scale": scale,
        }
        return losses, figures

    def acted(self, first_episode: int) -> None:
        """Nothing: rows that any policy played are learned from."""

    def stepped(self) -> None:
        self.model.follow_value(self.settings.target_rate)

    def state(self) -> dict[str, Tensor]:
        return {"return_range": self.return_range}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.return_range.copy_(state["return_range"])

    def _scale(self, returns: Tensor) -> Tensor:
        """The scale of returns, which divides a policy's gain: 5th to 95th percentile, at least 1.

        The percentiles are moving averages over the updates.
        """
        shares = torch.tensor([0.05, 0.95], device=returns.device)
        is_first = bool((self.return_range == 0).all())
        self.return_range.lerp_(torch.quantile(returns, shares), 1.0 if is_first else 0.01)
        return (self.return_range[1] - self.return_range[0]).clamp(min=1.0)


@dataclass(frozen=True)
class Trajectories:
    """Trajectories imagined under the policy; time runs from the start (0) to the horizon (L)."""

    features: Tensor  # [M, L + 1, F]
    spread: Tensor  # [M, L, A] the policy's std or log-probabilities, from which entropy follows
    saturation: Tensor  # [M, L] of the policy
    returns: Tensor  # [M, L] of each state before the last, differentiable in the actions
    weights: Tensor  # [M, L] the discounted probability that the task still goes on there


def act_in_imagination(
    model: WorldModel,
    policy: DrawnPolicy,
    starts: Latent,
    *,
    horizon: int,
    return_lambda: float,
    discount_rate: float,
    generator: torch.Generator,
) -> Trajectories:
    """Let the policy act in imagination. Gradients reach the actions through the dynamics."""
    features, spreads, saturations = [starts.features], [], []
    action_size = model.spec.action_size
    shape = (horizon, starts.shape[0], action_size + model.dynamics.noise_size)
    noise = torch.randn(shape, generator=generator, device=features[0].device).movedim(0, 1)
    action_noise, latent_noise = noise.tensor_split([action_size], -1)  # [M, L, A], [M, L, S]

    def act(latent: Latent, row: int) -> Tensor:
        action, spread, saturation = policy.draw(features[-1].detach(), action_noise[:, row])
        spreads.append(spread)
        saturations.append(saturation)
        return action

    for _, latent in imagined_rows(model.dynamics, starts, act, horizon, latent_noise):
        features.append(latent.features)
    path = torch.stack(features, 1)  # [M, L + 1, F]
    ahead = path[:, 1:]
    discount = discount_rate * model.discount(ahead)
    returns = lambda_returns(model.reward(ahead), discount, model.slow_value(ahead), return_lambda)
    certain = torch.ones_like(discount[:, :1])
    reached = torch.cat([certain, discount[:, :-1].detach()], 1).cumprod(1)
    return Trajectories(
        path, torch.stack(spreads, 1), torch.stack(saturations, 1), returns, reached
    )
