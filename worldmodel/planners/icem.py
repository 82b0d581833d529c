"""iCEM: a cross-entropy method for few candidates, with noise that is correlated in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from worldmodel.checks import at_least, between, more_than
from worldmodel.planners.candidates import best_of, checked_proposals, draw, evaluate
from worldmodel.planners.planner import Project, require_elites, unscored
from worldmodel.structs import Score, Search


@dataclass(frozen=True)
class ICEM:
    """CEM with the five changes of Pinneri et al. 2020 (arXiv 2008.06389).

    - Noise has power 1 / frequency ** noise_exponent along the look-ahead: 0 is white noise, 2 is
      like a random walk.
    - The share ``elites_kept`` of the elites competes in the next iteration and is scored again, so
      a return that was high by chance does not stay.
    - Each iteration draws ``decay`` times as many candidates as the one before, but at least two
      for each elite.
    - The mean itself is a candidate in the last iteration.
    - The answer is the best candidate. Proposals compete in the first iteration and stay if elite;
      propose the shifted elites of the last decision to keep elites between decisions too.

    ``momentum`` is the share of the old mean and standard deviation in the new ones.
    """

    kind: Literal["icem"] = "icem"
    horizon: Annotated[int, at_least(1)] = 6
    """Actions that a plan looks ahead. Larger: later rewards count, and plans take longer."""
    iterations: Annotated[int, at_least(1)] = 3
    """Rounds of the search: each draws candidates around the best of the round before."""
    candidates: Annotated[int, at_least(1)] = 64
    """Action sequences that each round compares, the policy's proposals included. Larger: better
    plans that take longer."""
    elites: Annotated[int, at_least(1)] = 16
    """How many of the best candidates the next round is fitted to. Smaller: a greedier search."""
    initial_std: Annotated[float, more_than(0)] = 0.3
    """Standard deviation of the first round's candidates, where the policy's proposals compete
    too."""
    noise_exponent: Annotated[float, at_least(0)] = 2.0
    """How smooth the candidates' noise is over time: 0 is white noise, 2 is like a random walk."""
    elites_kept: Annotated[float, between(0, 1)] = 0.3
    """Share of the elites that competes again in the next round."""
    decay: Annotated[float, between(0.01, 1)] = 0.8
    """Candidates of a round over those of the round before. Smaller: faster, and less is searched
    late."""
    momentum: Annotated[float, between(0, 1)] = 0.1
    """Share of the old mean and standard deviation in the new ones. Larger: the search narrows more
    slowly."""

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
        # [B, .., L, A] the candidates that are not drawn
        given = checked_proposals(proposals, start, self.candidates)
        kept = round(self.elites_kept * self.elites)
        colour = colouring(start, self.noise_exponent)  # [L, L]
        mean, std = start, torch.full_like(start, self.initial_std)  # [B, L, A]
        noise = start.new_empty(len(start), self.candidates, *start.shape[1:])  # [B, N, L, A]
        elites, returns = unscored(start, project)
        done = 0
        for iteration in range(self.iterations):
            if out_of_time():
                break
            if 0 < iteration == self.iterations - 1:
                given = torch.cat([given, mean[:, None]], 1)
            size = max(int(self.candidates * self.decay**iteration), 2 * self.elites)
            fresh = noise[:, given.shape[1] : min(size, self.candidates)]
            fresh = colour @ draw(fresh, generators)
            fresh = fresh.mul_(std[:, None]).add_(mean[:, None])
            candidates = project(torch.cat([given, fresh], 1))
            scored = evaluate(score, candidates, out_of_time, slice_size)  # [B, M]
            elites, returns = best_of(candidates, scored, self.elites)  # [B, K, L, A], [B, K]

            has_return = returns[:, :1, None].isfinite()  # [B, 1, 1]
            fitted_std = elites.std(1, correction=0).lerp(std, self.momentum)
            std = torch.where(has_return, fitted_std, std)
            mean = torch.where(has_return, elites.mean(1).lerp(mean, self.momentum), mean)
            given = elites[:, :kept]
            done += scored.shape[1] == candidates.shape[1]
        has_return = returns[:, :1, None].isfinite()
        actions = torch.where(has_return, elites[:, 0], project(mean[:, None])[:, 0])
        return Search(actions, returns.mean(1), elites, done)


def colouring(start: Tensor, exponent: float) -> Tensor:
    """A matrix [L, L] that turns unit white noise into unit noise of power 1 / f ** exponent.

    The zero frequency gets the power of the lowest other one (Timmer and König 1995).
    """
    length = start.shape[-2]
    frequency = torch.fft.rfftfreq(length, dtype=start.dtype, device=start.device)  # [L // 2 + 1]
    amplitude = frequency.clamp(min=1 / length).pow(-exponent / 2)
    white = torch.eye(length, dtype=start.dtype, device=start.device)
    colour: Tensor = torch.fft.irfft(amplitude * torch.fft.rfft(white), n=length)
    return colour / colour.square().sum(1, keepdim=True).sqrt()
