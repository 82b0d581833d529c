"""Lambda returns: the discounted sum of imagined rewards and values."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, return_lambda: float) -> Tensor:
    """Lambda returns of the L states before the last.

    reward, discount, value [..., L] belong to the L states after the first: state l + 1 has
    reward[l], discount[l] and value[l].

    G[l] = reward[l] + discount[l] ((1 - lambda) value[l] + lambda G[l + 1]),  G[L] = value[L - 1]
    """
    result = value[..., -1]
    returns = []
    for step in reversed(range(reward.shape[-1])):
        mixed = (1 - return_lambda) * value[..., step] + return_lambda * result
        result = reward[..., step] + discount[..., step] * mixed
        returns.append(result)
    return torch.stack(returns[::-1], -1)
