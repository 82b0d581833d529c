"""The interface of every planner: one method, ``search``, over a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.checks import require
from worldmodel.structs import Score, Search

Project = Callable[[Tensor], Tensor]
"""Moves candidates inside their limits: [B, N, L, A] -> the same shape."""


class Planner(Protocol):
    """A planner searches for the action sequence with the highest score. It reads no model.

    It runs a batch of B searches. ``start`` [B, L, A] is where each begins: zeros, or the previous
    plan, shifted by the caller. Device and dtype follow it. ``proposals`` [B, M, L, A] come from
    outside the planner (a policy, the elites of the last decision), compete with the planner's own
    candidates and count as some of them. ``generators`` holds one for each search, on the device of
    ``start``: the result of a search does not depend on the others of its batch. Every scored
    candidate and every returned action went through ``project``.

    ``out_of_time`` is asked before each iteration, and within one after every ``slice_size``
    candidates (None: not within one). An iteration that is cut short uses the candidates already
    scored; only whole iterations are counted. If nothing was scored, the answer is ``start``, and
    its value is NaN.

    A candidate whose return is NaN or infinite becomes an elite only if no return of its search is
    finite. Such a search keeps its actions of before, and its value is -inf. The actions are finite
    if ``start`` is.
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
    """The projection without further limits: every number of an action is between -1 and 1."""
    return candidates.clamp(-1.0, 1.0)


def unscored(start: Tensor, project: Project) -> tuple[Tensor, Tensor]:
    """The elites [B, 1, L, A] and returns [B, 1], NaN, of a search that has scored nothing."""
    return project(start[:, None]), start.new_full((len(start), 1), torch.nan)


class HasElites(Protocol):
    """A planner with candidates and elites."""

    @property
    def candidates(self) -> int: ...
    @property
    def elites(self) -> int: ...


def require_elites(planner: HasElites, path: str) -> None:
    """Raise if a planner has more elites than candidates."""
    require(
        planner.elites <= planner.candidates,
        f"{path}.elites: expected at most {path}.candidates = {planner.candidates},"
        f" got {planner.elites}; choose both, such as --{path}.candidates {planner.candidates}"
        f" --{path}.elites {max(1, planner.candidates // 4)}",
    )
