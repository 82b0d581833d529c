"""The cross-entropy method, as PlaNet plans with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.planners.candidates import admit, draw, elect, judge
from worldmodel.planners.planner import Project, unsearched
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class CEM:
    """A Gaussian for each action, fitted again and again to its own best samples.

    PlaNet (Hafner et al. 2019, algorithm 2) begins every decision afresh, at a ``start`` of zeros
    with unit standard deviation, refits by mean and population standard deviation, and returns the
    mean.
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
    ) -> Search:
        proposals = admit(proposals, start, self.candidates)
        proposed = proposals.shape[1]
        mean, std = start, torch.full_like(start, self.initial_std)  # [B, L, A]
        pool = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
        done = 0
        for _ in range(self.iterations):
            if out_of_time():
                break
            pool[:, :proposed] = proposals
            draw(pool[:, proposed:], generators).mul_(std[:, None]).add_(mean[:, None])
            candidates = project(pool)
            elites, returns = elect(candidates, judge(score, candidates), self.elites)  # [B, K, ..]

            found = returns[:, :1, None].isfinite()  # [B, 1, 1]
            std = torch.where(found, elites.std(1, correction=0), std)
            mean = torch.where(found, elites.mean(1), mean)
            done += 1
        if not done:
            return unsearched(start, project)
        return Search(project(mean[:, None])[:, 0], returns.mean(1), elites, done)
