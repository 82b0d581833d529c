"""Quadratic scores: minus a quadratic cost of features and actions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Quadratic:
    """The score of linear-quadratic problems, with diagonal Q and R.

    cost = (f - target)' Q (f - target) + a' R a
    """

    target: Tensor  # [F]
    state_weight: Tensor  # [F] the diagonal of Q
    action_weight: Tensor  # [A] the diagonal of R

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        distance = (futures.features.float() - self.target).square() * self.state_weight
        return -distance.sum(-1) - (actions.square() * self.action_weight).sum(-1)

    def cost(self, features: Tensor, action: Tensor) -> Tensor:
        """[F], [A] -> []"""
        return self.final_cost(features) + (action.square() * self.action_weight).sum()

    def final_cost(self, features: Tensor) -> Tensor:
        """[F] -> []"""
        return ((features - self.target).square() * self.state_weight).sum()
