"""Returns imagined from the model's own latents teach the policy and its value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.models import WorldModel
from worldmodel.models.policy import AnyPolicy
from worldmodel.models.roll import imagined_rows
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Dream:
    """What was imagined under the policy; time runs from the start (0) to the horizon (L)."""

    features: Tensor  # [M, L + 1, F]
    spread: Tensor  # [M, L, A] of the policy: what its entropy follows from
    strain: Tensor  # [M, L] of the policy
    returns: Tensor  # [M, L] of each state before the last, differentiable in the actions
    weights: Tensor  # [M, L] the probability of getting there


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, trace: float) -> Tensor:
    """Returns of the L states before the last.

    reward, discount, value [..., L] arrived with the L states after the first: state l + 1 pays
    reward[l], goes on with discount[l] and is worth value[l].

    G[l] = reward[l] + discount[l] ((1 - trace) value[l] + trace G[l + 1]),  G[L] = value[L - 1]
    """
    result = value[..., -1]
    returns = []
    for step in reversed(range(reward.shape[-1])):
        mixed = (1 - trace) * value[..., step] + trace * result
        result = reward[..., step] + discount[..., step] * mixed
        returns.append(result)
    return torch.stack(returns[::-1], -1)


def dream(
    model: WorldModel,
    policy: AnyPolicy,
    starts: Latent,
    *,
    horizon: int,
    trace: float,
    discount_rate: float,
    generator: torch.Generator,
) -> Dream:
    """Let the policy act in imagination. Gradients flow through the dynamics to the actions."""
    features, spreads, strains = [starts.features], [], []
    action_size = model.spec.action_size
    shape = (horizon, starts.shape[0], action_size + model.dynamics.noise_size)
    noise = torch.randn(shape, generator=generator, device=features[0].device).movedim(0, 1)
    action_noise, latent_noise = noise.tensor_split([action_size], -1)  # [M, L, A], [M, L, S]

    def act(latent: Latent, row: int) -> Tensor:
        action, spread, strain = policy.draw(features[-1].detach(), action_noise[:, row])
        spreads.append(spread)
        strains.append(strain)
        return action

    for _, latent in imagined_rows(model.dynamics, starts, act, horizon, latent_noise):
        features.append(latent.features)
    path = torch.stack(features, 1)  # [M, L + 1, F]
    ahead = path[:, 1:]
    discount = discount_rate * model.discount(ahead)
    returns = lambda_returns(model.reward(ahead), discount, model.slow_value(ahead), trace)
    certain = torch.ones_like(discount[:, :1])
    reached = torch.cat([certain, discount[:, :-1].detach()], 1).cumprod(1)
    return Dream(path, torch.stack(spreads, 1), torch.stack(strains, 1), returns, reached)
