"""Random shooting: draw uniform action sequences and take the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.planners.candidates import best_of, checked_proposals, draw, evaluate
from worldmodel.planners.planner import Project, require_elites, unscored
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class Shooting:
    """Random shooting: candidates uniform in [-1, 1], the baseline of every other planner.

    The first iteration also scores ``start`` and the proposals. An iteration takes over only the
    elites of the one before, so several iterations are one large iteration in parts.
    """

    kind: Literal["shooting"] = "shooting"
    horizon: Annotated[int, at_least(1)] = 6
    """Actions that a plan looks ahead. Larger: later rewards count, and plans take longer."""
    iterations: Annotated[int, at_least(1)] = 3
    """Rounds of the search: each draws fresh candidates and keeps the best of all."""
    candidates: Annotated[int, at_least(1)] = 64
    """Action sequences that each round compares, the policy's proposals included. Larger: better
    plans that take longer."""
    elites: Annotated[int, at_least(1)] = 16
    """How many of the best candidates are kept from round to round; the first is the plan."""

    def check(self, path: str) -> None:
        require_elites(self, path)

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
        given = torch.cat([start[:, None], checked_proposals(proposals, start, self.candidates)], 1)
        pool = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
        elites, best = unscored(start, project)  # [B, K, L, A], [B, K]
        done = 0
        for _ in range(self.iterations):
            if out_of_time():
                break
            draw(pool, generators, uniform)
            if not done:
                pool[:, : given.shape[1]] = given
            candidates = project(pool)
            scored = evaluate(score, candidates, out_of_time, slice_size)  # [B, M]
            compared = torch.cat([elites, candidates[:, : scored.shape[1]]], 1)
            returns = torch.cat([best.masked_fill(best.isnan(), -torch.inf), scored], 1)
            elites, best = best_of(compared, returns, self.elites)
            done += scored.shape[1] == candidates.shape[1]
        has_return = best[:, :1, None].isfinite()  # [B, 1, 1]
        actions = torch.where(has_return, elites[:, 0], project(start[:, None])[:, 0])
        return Search(actions, best.mean(1), elites, done)


def uniform(noise: Tensor, *, generator: torch.Generator) -> Tensor:
    return noise.uniform_(-1.0, 1.0, generator=generator)
