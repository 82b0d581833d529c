"""What every planner is: one verb over a score, the same for all variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.checks import require
from worldmodel.structs import Score, Search

Project = Callable[[Tensor], Tensor]
"""What is allowed: candidates [B, N, L, A] -> the same shape, each moved inside its limits."""


class Planner(Protocol):
    """Searches for the action sequence that a score likes best, and knows no model.

    ``start`` [B, L, A] is where the search begins: zeros, or the previous plan, shifted by the
    caller. Device and dtype follow it. ``proposals`` [B, M, L, A] come from elsewhere (a policy,
    the elites of the last decision), compete with the planner's own candidates and count as some
    of them. ``generators`` holds one for each row of the batch, on the device of ``start``: a row
    is planned alike whatever its neighbours are. Every scored candidate and every returned action
    went through ``project``.

    ``out_of_time`` is asked before each iteration, and inside of one whenever ``slice_size``
    candidates were scored (None: not). An iteration that is cut makes do with those scored, and
    only whole ones are counted. Where nothing was scored, the answer is ``start`` itself, and its
    value NaN.

    A candidate whose return is not finite is an elite only where no return is; such a row keeps
    the place where it stood, and its value is -inf. The actions are finite if ``start`` is.
    """

    @property
    def horizon(self) -> int: ...

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
    ) -> Search: ...


def box(candidates: Tensor) -> Tensor:
    """What every continuous task here allows: each action between -1 and 1."""
    return candidates.clamp(-1.0, 1.0)


def unscored(start: Tensor, project: Project) -> tuple[Tensor, Tensor]:
    """Elites [B, 1, L, A] and returns [B, 1] before anything was scored."""
    return project(start[:, None]), start.new_full((len(start), 1), torch.nan)


class HasElites(Protocol):
    @property
    def candidates(self) -> int: ...
    @property
    def elites(self) -> int: ...


def require_elites(planner: HasElites, path: str) -> None:
    require(
        planner.elites <= planner.candidates,
        f"{path}.elites: expected at most {path}.candidates = {planner.candidates},"
        f" got {planner.elites}",
    )
