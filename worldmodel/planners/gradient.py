"""Gradient planning: gradient ascent on the score, from several candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.planners.candidates import best_of, checked_proposals, draw, evaluate, in_time
from worldmodel.planners.planner import Planner, Project, require_elites, unscored
from worldmodel.structs import Score, Search

# Adam's usual numbers (Kingma and Ba 2015).
MOMENT, SQUARE, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Gradient:
    """Adam on every candidate separately, each step projected into the limits.

    Candidates begin as ``start``, as the proposals, and as ``start`` plus normal noise of
    ``initial_std``. The first iteration scores them as they are; each later one takes a step first.
    The first step is about ``rate``, whatever the unit of the score; later steps shrink linearly.
    The elites are chosen among the best sequence that each candidate has been.

    The score must be differentiable. The tensors that it uses may be made under ``no_grad``, but
    not under ``inference_mode``: torch cannot differentiate through such tensors.
    """

    kind: Literal["gradient"] = "gradient"
    horizon: Annotated[int, at_least(1)] = 6
    """Actions that a plan looks ahead. Larger: later rewards count, and plans take longer."""
    iterations: Annotated[int, at_least(1)] = 3
    """Rounds of the search: all after the first move each candidate up its gradient."""
    candidates: Annotated[int, at_least(1)] = 64
    """Action sequences that each round compares, the policy's proposals included. Larger: better
    plans that take longer."""
    elites: Annotated[int, at_least(1)] = 16
    """How many of the best candidates are returned; the first is the plan."""
    initial_std: Annotated[float, more_than(0)] = 0.3
    """Standard deviation of the first round's candidates, where the policy's proposals compete
    too."""
    rate: Annotated[float, more_than(0)] = 0.1
    """Size of the first step, in the unit of actions; later steps shrink. Larger: a wider and
    rougher search."""

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
        with torch.inference_mode(mode=False), torch.no_grad():
            start = start.clone()  # a copy that is no inference tensor, if the caller's was one
            given = torch.cat(
                [start[:, None], checked_proposals(proposals, start, self.candidates)], 1
            )
            pool = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
            draw(pool[:, given.shape[1] :], generators).mul_(self.initial_std).add_(start[:, None])
            pool[:, : given.shape[1]] = given
            candidates = project(pool)

            best_candidates = candidates.clone()
            best = start.new_full(candidates.shape[:2], -torch.inf)  # [B, N]
            slope, moment, square = (torch.zeros_like(candidates) for _ in range(3))
            elites, returns = unscored(start, project)
            is_scored = False
            done = 0
            for iteration in range(self.iterations):
                if out_of_time():
                    break
                if iteration:
                    moment.lerp_(slope, 1 - MOMENT)
                    square.lerp_(slope.square(), 1 - SQUARE)
                    scale = (square / (1 - SQUARE**iteration)).sqrt_().add_(EPSILON)
                    step = self.rate * (1 - (iteration - 1) / self.iterations)
                    step /= 1 - MOMENT**iteration
                    candidates = project(candidates.addcdiv(moment, scale, value=step))
                parts = in_time(candidates, out_of_time, slice_size)
                evaluated = [evaluate_with_slope(score, part, project) for part in parts]
                returns, slope = (torch.cat(each, 1) for each in zip(*evaluated, strict=True))
                missed = candidates.shape[1] - returns.shape[1]
                returns = torch.nn.functional.pad(returns, (0, missed), value=-torch.inf)
                better = returns > best
                best = torch.where(better, returns, best)
                best_candidates = torch.where(better[:, :, None, None], candidates, best_candidates)
                is_scored = True
                if missed:
                    break
                done += 1
            if is_scored:
                # [B, K, L, A], [B, K]
                elites, returns = best_of(best_candidates, best, self.elites)
            has_return = returns[:, :1, None].isfinite()  # [B, 1, 1]
            actions = torch.where(has_return, elites[:, 0], project(start[:, None])[:, 0])
            return Search(actions, returns.mean(1), elites, done)


def evaluate_with_slope(
    score: Score, candidates: Tensor, project: Project
) -> tuple[Tensor, Tensor]:
    """Returns [B, N] and their gradient [B, N, L, A], 0 where it is NaN or infinite.

    Candidates [B, N, L, A] are inside the limits already. The gradient passes through ``project``,
    because an action held at a limit may need another action to move, on which that limit depends.
    """
    with torch.enable_grad():
        candidates = candidates.detach().requires_grad_()
        returns = evaluate(score, project(candidates), lambda: False, None)
        if not returns.requires_grad:
            raise ValueError(
                "score: its returns have no gradient by the actions; the gradient planner needs"
                " one (cem, icem and mppi do not)"
            )
        (slope,) = torch.autograd.grad(returns.sum(), candidates)
    return returns.detach(), slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Refined:
    """Two planners in sequence: ``then`` starts from the answer and the elites of ``first``."""

    first: Planner
    then: Gradient

    def __post_init__(self) -> None:
        if self.first.horizon != self.then.horizon:
            raise ValueError(
                f"Refined: expected one horizon, got {self.first.horizon} and {self.then.horizon}"
            )

    @property
    def horizon(self) -> int:
        return self.first.horizon

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
        first = self.first.search(
            score,
            start,
            proposals=proposals,
            generators=generators,
            project=project,
            out_of_time=out_of_time,
            slice_size=slice_size,
        )
        refined = self.then.search(
            score,
            first.actions,
            proposals=first.elites[:, : self.then.candidates - 1],
            generators=generators,
            project=project,
            out_of_time=out_of_time,
            slice_size=slice_size,
        )
        if not refined.iterations:
            return first
        iterations = first.iterations + refined.iterations
        return Search(refined.actions, refined.value, refined.elites, iterations)
