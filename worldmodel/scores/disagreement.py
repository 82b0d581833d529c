"""Disagreement scores: how much the members of the model's ensemble differ about each row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.scores.reward import RewardSum
from worldmodel.scores.score import FutureScore
from worldmodel.scores.weighted import Weighted
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Disagreement:
    """The variance over the ensemble: high where the model was not trained.

    ``Weighted([(1.0, RewardSum(0.99)), (-1.0, Disagreement())])`` keeps to what is known.
    """

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        if heads.ensemble is None:
            raise ValueError(
                "disagreement: this model has no ensemble; train one with model.ensemble.size: 5"
                " and objective.ensemble.weight: 1.0"
            )
        return heads.ensemble.disagreement(futures.features)


def reward_without(pessimism: float, discount_rate: float) -> FutureScore:
    """The learned rewards, minus the disagreement times ``pessimism``; plus it, if negative."""
    reward = RewardSum(discount_rate)
    return Weighted([(1.0, reward), (-pessimism, Disagreement())]) if pessimism else reward
