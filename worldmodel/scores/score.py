"""What every score is to a planner: a number for each imagined row, summed over the look-ahead."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.scores.function import Function, LatentScore
from worldmodel.structs import Latent


@runtime_checkable
class FutureScore(Protocol):
    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        """[B, N, L], [B, N, L, A] -> [B, N, L], more is better.

        ``heads``: reward, discount and value of the model as it is now, for scores that read them.
        """


@runtime_checkable
class HasCost(Protocol):
    """A score that a planner with derivatives (iLQR) can use too: less is better."""

    def cost(self, features: Tensor, action: Tensor) -> Tensor:
        """Of a row before the last: [F], [A] -> []"""

    def final_cost(self, features: Tensor) -> Tensor:
        """Of the last row: [F] -> []"""


def score_of(score: FutureScore | LatentScore | Any) -> FutureScore:
    """A score as it is, or a plain function of features and actions as one."""
    return score if isinstance(score, FutureScore) else Function(score)
