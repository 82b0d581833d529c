"""The cross-entropy method for actions that are one of A choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.planners.candidates import best_of, checked_proposals, draw, evaluate
from worldmodel.planners.planner import Project, unscored
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class CategoricalCEM:
    """CEM with a categorical distribution for each time step, refitted to the elites.

    Actions are one-hot [B, L, A]; the largest entry of each action of ``start`` and the proposals
    is its choice. The distribution begins uniform. ``floor`` is the share of the uniform
    distribution that stays in it, so that no choice becomes impossible by chance. The best sequence
    so far, at first ``start``, competes in every iteration and is the answer. ``project`` may
    forbid choices by giving other one-hot actions instead.
    """

    horizon: int
    iterations: int
    candidates: int
    elites: int
    floor: float

    def search(
        self,
        score: Score,
        start: Tensor,
        *,
        proposals: Tensor | None,
        generators: Sequence[torch.Generator],
        project: Project,
        out_of_time: Callable[[], bool],
        slice_size: int | None = None,
    ) -> Search:
        start = largest(start)
        # [B, 1 + M, L, A] the best so far, then the proposals
        kept = torch.cat([start[:, None], checked_proposals(proposals, start, self.candidates)], 1)
        kept = largest(kept)
        uniform = 1 / start.shape[-1]
        probabilities = torch.full_like(start, uniform)  # [B, L, A]
        noise = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
        elites, returns = unscored(start, project)
        done = 0
        for _ in range(self.iterations):
            if out_of_time():
                break
            pool = chosen(probabilities[:, None], draw(noise, generators))
            pool[:, : kept.shape[1]] = kept
            candidates = project(pool)
            scored = evaluate(score, candidates, out_of_time, slice_size)  # [B, M]
            elites, returns = best_of(candidates, scored, self.elites)  # [B, K, L, A], [B, K]

            has_return = returns[:, :1, None].isfinite()  # [B, 1, 1]
            fitted = elites.mean(1).lerp(torch.full_like(start, uniform), self.floor)
            probabilities = torch.where(has_return, fitted, probabilities)
            kept[:, 0] = torch.where(has_return, elites[:, 0], kept[:, 0])
            done += scored.shape[1] == candidates.shape[1]
        return Search(project(kept[:, :1])[:, 0], returns.mean(1), elites, done)


def chosen(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Draws from a categorical: [..., A] and standard normal [..., A] -> one-hot [..., A]

    ``-log Phi(noise)`` is exponential, and ``p / exponential`` is largest for choice i with
    probability ``p_i``. An exported planner can be given normal numbers, and no other kind.
    """
    return largest(probabilities / -torch.special.log_ndtr(noise))


def largest(weights: Tensor) -> Tensor:
    """The choice with the largest entry: [..., A] -> one-hot [..., A]"""
    place = weights.argmax(-1, keepdim=True)
    return torch.zeros_like(weights).scatter_(-1, place, 1.0)
