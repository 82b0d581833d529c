"""CEM: the cross-entropy method, as in PlaNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.planners.gaussian_search import gaussian_search
from worldmodel.planners.planner import require_elites


@dataclass(frozen=True)
class CEM:
    """The cross-entropy method: a Gaussian for each action, refitted to the best candidates.

    PlaNet (Hafner et al. 2019, algorithm 2) begins every decision at a ``start`` of zeros with unit
    standard deviation, refits by mean and population standard deviation, and returns the mean.
    Proposals are scored in the first iteration and compete in each later one with that return.
    """

    kind: Literal["cem"] = "cem"
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

    def check(self, path: str) -> None:
        require_elites(self, path)

    search = gaussian_search

    def refit(self, elites: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and population standard deviation [B, L, A] of elites [B, K, L, A]."""
        return elites.mean(1), elites.std(1, correction=0)
