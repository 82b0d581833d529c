"""Model predictive path integral control, with a policy's proposals, as in TD-MPC2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.planners.candidates import admit, draw, elect, judge_in_time
from worldmodel.planners.planner import Project, unscored
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class MPPI:
    """A Gaussian for each action, fitted to elites that weigh by their returns.

        weight = softmax(temperature * (return - best return))

    A higher temperature listens more to the best, in the score's own unit. Of a score whose returns
    lie hundreds apart only the best candidate is heard; CEM and iCEM rank, whatever the unit.

    Proposals compete in every iteration with the return of the first; the standard deviation stays
    in [min_std, max_std] and begins at the upper end. Returns the weighted mean (TD-MPC2 draws one
    of the elites by weight).
    """

    horizon: int
    iterations: int
    candidates: int
    elites: int
    temperature: float
    min_std: float
    max_std: float

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
        mean, std = start, torch.full_like(start, self.max_std)  # [B, L, A]
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
            weights = (self.temperature * (returns - returns[:, :1])).softmax(1)[:, :, None, None]
            centre = (weights * elites).sum(1)  # [B, L, A]
            spread = (weights * (elites - centre[:, None]).square()).sum(1).sqrt()
            std = torch.where(found, spread.clamp(self.min_std, self.max_std), std)
            mean = torch.where(found, centre, mean)
            done += scored.shape[1] == candidates.shape[1]
        return Search(project(mean[:, None])[:, 0], returns.mean(1), elites, done)
