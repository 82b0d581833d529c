"""The life of candidates in every search: admitted or drawn, judged, elected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldmodel.structs import Score


def admit(proposals: Tensor | None, start: Tensor, candidates: int) -> Tensor:
    """[B, M, L, A], empty for None. An action that is not finite becomes that of ``start``."""
    batch, *action_shape = start.shape
    if proposals is None:
        return start.new_empty(batch, 0, *action_shape)
    if list(proposals.shape) != [batch, *proposals.shape[1:2], *action_shape]:
        raise ValueError(
            f"proposals: expected [B, any, L, A] = [{batch}, any, {action_shape[0]},"
            f" {action_shape[1]}], got {list(proposals.shape)}"
        )
    if proposals.shape[1] >= candidates:
        raise ValueError(
            f"proposals: expected fewer than the planner's {candidates} candidates,"
            f" got {proposals.shape[1]}"
        )
    proposals = proposals.to(start)
    return torch.where(proposals.isfinite(), proposals, start[:, None])


def draw(
    noise: Tensor,
    generators: Sequence[torch.Generator],
    law: Callable[..., Tensor] = Tensor.normal_,
) -> Tensor:
    """Fill [B, ...] in place, each row from its own generator; a row never depends on B."""
    if len(generators) != len(noise):
        raise ValueError(
            f"generators: expected one for each of the {len(noise)} rows, got {len(generators)}"
        )
    for row, generator in zip(noise, generators, strict=True):
        law(row, generator=generator)
    return noise


def judge(score: Score, candidates: Tensor) -> Tensor:
    """[B, N, L, A] -> [B, N]: what is not finite becomes -inf, worse than all that is."""
    returns = score(candidates)
    if returns.shape != candidates.shape[:2]:
        raise ValueError(
            f"score: expected returns of shape {list(candidates.shape[:2])},"
            f" got {list(returns.shape)}"
        )
    return returns.masked_fill(~returns.isfinite(), -torch.inf)


def elect(candidates: Tensor, returns: Tensor, elites: int) -> tuple[Tensor, Tensor]:
    """The best [B, K, L, A] and their returns [B, K], best first.

    Where fewer than K returns are finite, those few fill the K places in turn.
    """
    best, index = returns.topk(elites, dim=1)  # [B, K]
    finite = best.isfinite().sum(1, keepdim=True)  # [B, 1]
    finite = finite.masked_fill(finite == 0, elites)
    place = torch.arange(elites, device=returns.device) % finite  # [B, K]
    index = index.gather(1, place)
    best = best.gather(1, place)
    shape = (-1, -1, *candidates.shape[2:])
    return candidates.gather(1, index[:, :, None, None].expand(shape)), best
