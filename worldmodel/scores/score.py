"""The interface of every score: a number for each imagined row, summed over the look-ahead."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.scores.function import Function, LatentScore
from worldmodel.structs import Latent


@runtime_checkable
class FutureScore(Protocol):
    """A score of imagined futures: a planner searches for the highest sum over the look-ahead."""

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        """[B, N, L], [B, N, L, A] -> [B, N, L], more is better.

        ``heads``: reward, discount and value of the model, for scores that need them.
        """


@runtime_checkable
class HasCost(Protocol):
    """A score that a planner with derivatives (iLQR) can use too; a lower cost is better."""

    def cost(self, features: Tensor, action: Tensor) -> Tensor:
        """The cost of a row before the last: [F], [A] -> []"""

    def final_cost(self, features: Tensor) -> Tensor:
        """The cost of the last row: [F] -> []"""


def score_of(score: FutureScore | LatentScore | Any) -> FutureScore:
    """The score itself, or ``Function`` of a plain function of features and actions."""
    return score if isinstance(score, FutureScore) else Function(score)
