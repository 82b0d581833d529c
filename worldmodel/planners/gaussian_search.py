"""The search of CEM and MPPI, which refit a Gaussian for each action to the best candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.planners.candidates import best_of, checked_proposals, draw, evaluate
from worldmodel.planners.planner import Project, unscored
from worldmodel.structs import Score, Search


class Refitting(Protocol):
    """A planner whose method ``search`` this is: its settings, and what it refits by."""

    @property
    def iterations(self) -> int: ...
    @property
    def candidates(self) -> int: ...
    @property
    def elites(self) -> int: ...
    @property
    def initial_std(self) -> float: ...

    def refit(self, elites: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Elites [B, K, L, A] and returns [B, K], best first -> mean and std [B, L, A]."""


def gaussian_search(
    planner: Refitting,
    score: Score,
    start: Tensor,
    *,
    proposals: Tensor | None,
    generators: Sequence[torch.Generator],
    project: Project,
    out_of_time: Callable[[], bool],
    slice_size: int | None = None,
) -> Search:
    """Draw candidates, evaluate them and refit the Gaussians; the final mean is the answer.

    Proposals are scored in the first iteration and compete in each later one with that return. A
    search of the batch in which no candidate has a finite return keeps its mean and std.
    """
    proposals = checked_proposals(proposals, start, planner.candidates)
    proposed = proposals.shape[1]
    mean, std = start, torch.full_like(start, planner.initial_std)  # [B, L, A]
    pool = start.new_empty(len(start), planner.candidates, *start.shape[1:])  # [B, N, L, A]
    pool[:, :proposed] = proposals
    known = start.new_empty(len(start), 0)  # [B, <= M] the proposals' returns, once scored
    elites, returns = unscored(start, project)
    done = 0
    for _ in range(planner.iterations):
        if out_of_time():
            break
        # Draw the candidates that are no proposals, and evaluate all.
        draw(pool[:, proposed:], generators).mul_(std[:, None]).add_(mean[:, None])
        candidates = project(pool)
        scored = evaluate(score, candidates, out_of_time, slice_size, known)  # [B, M]
        known = scored[:, :proposed]

        # Refit to the best.
        elites, returns = best_of(candidates, scored, planner.elites)  # [B, K, L, A], [B, K]
        has_return = returns[:, :1, None].isfinite()  # [B, 1, 1]
        fitted_mean, fitted_std = planner.refit(elites, returns)
        mean = torch.where(has_return, fitted_mean, mean)
        std = torch.where(has_return, fitted_std, std)
        done += scored.shape[1] == candidates.shape[1]
    return Search(project(mean[:, None])[:, 0], returns.mean(1), elites, done)
