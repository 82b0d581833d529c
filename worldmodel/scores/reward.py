"""Reward scores: the learned rewards, discounted, and the value of the last row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent


@dataclass(frozen=True)
class RewardSum:
    """The sum of learned rewards: the score of ``agent.plan`` unless it is given another one."""

    discount_rate: float

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return reward_rows(futures.features, heads, self.discount_rate)


def reward_rows(features: Tensor, heads: Imagination, discount_rate: float) -> Tensor:
    """Each row's reward, times all discounts of the rows before it: [..., L, F] -> [..., L].

    The last row also has its value, discounted.
    """
    discount = discount_rate * heads.discount(features)
    reached = torch.cat([torch.ones_like(discount[..., :1]), discount[..., :-1]], -1)
    rewards: Tensor = reached.cumprod(-1) * heads.reward(features)
    value = discount.prod(-1) * heads.slow_value(features[..., -1, :])
    return torch.cat([rewards[..., :-1], rewards[..., -1:] + value[..., None]], -1)
