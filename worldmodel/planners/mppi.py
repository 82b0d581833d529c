"""MPPI: model predictive path integral control with a policy's proposals, as in TD-MPC2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from worldmodel.checks import at_least, more_than, require
from worldmodel.planners.gaussian_search import gaussian_search
from worldmodel.planners.planner import require_elites


@dataclass(frozen=True)
class MPPI:
    """MPPI: a Gaussian for each action, refitted to elites weighted by their returns.

        weight = softmax(temperature * (return - best return))

    A higher temperature gives the best elites more weight, in the score's own unit. With a score
    whose returns are hundreds apart only the best candidate has weight. CEM and iCEM only rank, so
    the unit does not matter to them.

    Proposals are scored in the first iteration and compete in each later one with that return. The
    standard deviation begins at ``initial_std`` and stays in [min_std, initial_std]. The answer is
    the weighted mean (TD-MPC2 draws one of the elites by weight).
    """

    kind: Literal["mppi"] = "mppi"
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
    min_std: Annotated[float, more_than(0)] = 0.1
    """Smallest standard deviation that the search narrows to. Larger: later rounds stay wider."""
    temperature: Annotated[float, more_than(0)] = 0.5
    """How strongly the elites' weights depend on their returns, in the score's own unit. Larger:
    the best elites weigh more."""

    def check(self, path: str) -> None:
        require_elites(self, path)
        require(
            self.min_std <= self.initial_std,
            f"{path}.min_std: expected at most {path}.initial_std = {self.initial_std},"
            f" got {self.min_std}",
        )

    search = gaussian_search

    def refit(self, elites: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean and standard deviation [B, L, A] of elites [B, K, L, A]."""
        weights = (self.temperature * (returns - returns[:, :1])).softmax(1)[:, :, None, None]
        mean = (weights * elites).sum(1)  # [B, L, A]
        std = (weights * (elites - mean[:, None]).square()).sum(1).sqrt()
        return mean, std.clamp(self.min_std, self.initial_std)
