"""Gradient ascent through the score, from several starts at once."""

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
    """Adam on every candidate by itself, each step projected; remembers the best place of each.

    Candidates start at ``start``, at the proposals, and at ``start`` plus normal noise of
    ``initial_std``. The first iteration scores them where they stand; each later one takes a step
    first. A step is about ``rate`` whatever the unit of the score, and shrinks linearly from there.

    The score must be differentiable. What it closes over may be made under ``no_grad``, but not
    under ``inference_mode``: torch cannot differentiate through such tensors.
    """

    kind: Literal["gradient"] = "gradient"
    horizon: Annotated[int, at_least(1)] = 6
    iterations: Annotated[int, at_least(1)] = 3
    candidates: Annotated[int, at_least(1)] = 64  # proposals included
    elites: Annotated[int, at_least(1)] = 16
    initial_std: Annotated[float, more_than(0)] = 0.3  # beside what a policy proposes
    rate: Annotated[float, more_than(0)] = 0.1  # about one step, in the actions' own unit

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
            start = start.clone()  # out of a caller's inference mode
            given = torch.cat(
                [start[:, None], checked_proposals(proposals, start, self.candidates)], 1
            )
            pool = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
            draw(pool[:, given.shape[1] :], generators).mul_(self.initial_std).add_(start[:, None])
            pool[:, : given.shape[1]] = given
            places = project(pool)

            best_places = places.clone()
            best = start.new_full(places.shape[:2], -torch.inf)  # [B, N]
            slope, moment, square = (torch.zeros_like(places) for _ in range(3))
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
                    places = project(places.addcdiv(moment, scale, value=step))
                parts = in_time(places, out_of_time, slice_size)
                climbed = [climb(score, part, project) for part in parts]
                returns, slope = (torch.cat(each, 1) for each in zip(*climbed, strict=True))
                missed = places.shape[1] - returns.shape[1]
                returns = torch.nn.functional.pad(returns, (0, missed), value=-torch.inf)
                better = returns > best
                best = torch.where(better, returns, best)
                best_places = torch.where(better[:, :, None, None], places, best_places)
                is_scored = True
                if missed:
                    break
                done += 1
            if is_scored:
                elites, returns = best_of(best_places, best, self.elites)  # [B, K, L, A], [B, K]
            found = returns[:, :1, None].isfinite()  # [B, 1, 1]
            actions = torch.where(found, elites[:, 0], project(start[:, None])[:, 0])
            return Search(actions, returns.mean(1), elites, done)


def climb(score: Score, places: Tensor, project: Project) -> tuple[Tensor, Tensor]:
    """[B, N, L, A] -> returns [B, N] and the slope [B, N, L, A], zero where it is not finite.

    Places are allowed already; the slope goes through ``project`` because one that pushes against
    a limit may have to move what the limit depends on.
    """
    with torch.enable_grad():
        places = places.detach().requires_grad_()
        returns = evaluate(score, project(places))
        if not returns.requires_grad:
            raise ValueError(
                "score: its returns have no gradient by the actions; the gradient planner needs"
                " one (cem, icem and mppi do not)"
            )
        (slope,) = torch.autograd.grad(returns.sum(), places)
    return returns.detach(), slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Refined:
    """One planner after another: ``then`` starts from the answer and the elites of ``first``."""

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
        found = self.first.search(
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
            found.actions,
            proposals=found.elites[:, : self.then.candidates - 1],
            generators=generators,
            project=project,
            out_of_time=out_of_time,
            slice_size=slice_size,
        )
        if not refined.iterations:
            return found
        iterations = found.iterations + refined.iterations
        return Search(refined.actions, refined.value, refined.elites, iterations)
