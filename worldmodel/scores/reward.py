"""The learned reward: discounted rewards, and the value of the last row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent


@dataclass(frozen=True)
class RewardSum:
    """What ``agent.plan`` searches for unless it is given another score."""

    discount_rate: float

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return reward_rows(futures.features, heads, self.discount_rate)


def reward_rows(features: Tensor, heads: Imagination, discount_rate: float) -> Tensor:
    """[..., L, F] -> [..., L]: each row's reward, discounted by all that leads to it.

    The last row also has its value.
    """
    discount = discount_rate * heads.discount(features)
    reached = torch.cat([torch.ones_like(discount[..., :1]), discount[..., :-1]], -1)
    rewards: Tensor = reached.cumprod(-1) * heads.reward(features)
    worth = discount.prod(-1) * heads.slow_value(features[..., -1, :])
    return torch.cat([rewards[..., :-1], rewards[..., -1:] + worth[..., None]], -1)
