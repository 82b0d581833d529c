"""The cross-entropy method, as PlaNet plans with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.planners.candidates import admit, draw, elect, judge_in_time
from worldmodel.planners.planner import Project, unscored
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class CEM:
    """A Gaussian for each action, fitted again and again to its own best samples.

    PlaNet (Hafner et al. 2019, algorithm 2) begins every decision afresh, at a ``start`` of zeros
    with unit standard deviation, refits by mean and population standard deviation, and returns the
    mean. Proposals compete in every iteration with the return of the first.
    """

    horizon: int
    iterations: int
    candidates: int
    elites: int
    initial_std: float

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
        proposals = admit(proposals, start, self.candidates)
        proposed = proposals.shape[1]
        mean, std = start, torch.full_like(start, self.initial_std)  # [B, L, A]
        pool = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
        pool[:, :proposed] = proposals
        known = start.new_empty(len(start), 0)  # [B, <= M] the proposals' returns, once scored
        elites, returns = unscored(start, project)
        done = 0
        for _ in range(self.iterations):
            if out_of_time():
                break
            draw(pool[:, proposed:], generators).mul_(std[:, None]).add_(mean[:, None])
            candidates = project(pool)
            scored = judge_in_time(score, candidates, out_of_time, slice_size, known)  # [B, M]
            known = scored[:, :proposed]
            elites, returns = elect(candidates, scored, self.elites)  # [B, K, L, A], [B, K]

            found = returns[:, :1, None].isfinite()  # [B, 1, 1]
            std = torch.where(found, elites.std(1, correction=0), std)
            mean = torch.where(found, elites.mean(1), mean)
            done += scored.shape[1] == candidates.shape[1]
        return Search(project(mean[:, None])[:, 0], returns.mean(1), elites, done)
