"""Candidates of a search: proposals are checked, others drawn, all evaluated, the best chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from worldmodel.structs import Score


def checked_proposals(proposals: Tensor | None, start: Tensor, candidates: int) -> Tensor:
    """Proposals [B, M, L, A], none for None; NaN and infinite actions become those of ``start``."""
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
    """Fill [B, ...] in place with random numbers, each of the B parts from its own generator.

    A part does not depend on how many others are in the batch.
    """
    if len(generators) != len(noise):
        raise ValueError(
            f"generators: expected one for each search of a batch of {len(noise)},"
            f" got {len(generators)}"
        )
    for part, generator in zip(noise, generators, strict=True):
        law(part, generator=generator)
    return noise


def in_time(
    candidates: Tensor, out_of_time: Callable[[], bool], slice_size: int | None
) -> Iterator[Tensor]:
    """Slices [B, n, L, A] of ``slice_size`` candidates, as long as there is time.

    The clock is asked before each slice but the first. None: one slice of all candidates.
    """
    size = slice_size or candidates.shape[1]
    for begin in range(0, candidates.shape[1], size):
        if begin and out_of_time():
            return
        yield candidates[:, begin : begin + size]


def evaluate(
    score: Score,
    candidates: Tensor,
    out_of_time: Callable[[], bool],
    slice_size: int | None,
    known: Tensor | None = None,
) -> Tensor:
    """Score candidates as long as there is time: [B, N, L, A] -> [B, M], of the first M of them.

    ``known``: the returns of the first candidates, which are not scored again. A return that is NaN
    or infinite becomes -inf.
    """
    returns = [] if known is None else [known]
    unknown = candidates if known is None else candidates[:, known.shape[1] :]
    for part in in_time(unknown, out_of_time, slice_size):
        scored = score(part)
        if scored.shape != part.shape[:2]:
            raise ValueError(
                f"score: expected returns of shape {list(part.shape[:2])}, got {list(scored.shape)}"
            )
        returns.append(scored.masked_fill(~scored.isfinite(), -torch.inf))
    return torch.cat(returns, 1)


def best_of(candidates: Tensor, returns: Tensor, elites: int) -> tuple[Tensor, Tensor]:
    """The elites [B, K, L, A] and their returns [B, K], best first.

    If only the first M of N candidates have returns [B, M], the best K * M / N of them are taken.
    If fewer than K are taken, or fewer have a finite return, they are repeated to fill K places.
    """
    scored = returns.shape[1]
    share = min(math.ceil(elites * scored / candidates.shape[1]), scored)
    best, index = returns.topk(share, dim=1)  # [B, <= K]
    finite = best.isfinite().sum(1, keepdim=True)  # [B, 1]
    finite = finite.masked_fill(finite == 0, share)
    place = torch.arange(elites, device=returns.device) % finite  # [B, K]
    index = index.gather(1, place)
    best = best.gather(1, place)
    shape = (-1, -1, *candidates.shape[2:])
    return candidates.gather(1, index[:, :, None, None].expand(shape)), best
