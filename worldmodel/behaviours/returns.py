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


def advantages(
    reward: Tensor, discount: Tensor, value: Tensor, follows: Tensor, return_lambda: float
) -> Tensor:
    """Generalised advantages of the rows of real episodes before their last: [..., T] -> [..., T-1]

    (Schulman et al. 2015, arXiv 1506.02438.) Row t + 1 holds what came of acting at row t:

    d[t] = reward[t + 1] + discount[t + 1] value[t + 1] - value[t]
    A[t] = d[t] + lambda discount[t + 1] A[t + 1]

    ``follows`` [..., T]: whether a row is there; nothing is summed over a row that is not.
    """
    apart = reward[..., 1:] + discount[..., 1:] * value[..., 1:] - value[..., :-1]
    result = torch.zeros_like(apart[..., 0])
    found = []
    for row in reversed(range(apart.shape[-1])):
        result = apart[..., row] + return_lambda * discount[..., row + 1] * result
        result = result * follows[..., row + 1]
        found.append(result)
    return torch.stack(found[::-1], -1)
