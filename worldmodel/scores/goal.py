"""A goal image as a score: minus the mean squared distance of latents from the goal's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Goal:
    """Rises towards ``there``. A function of features and actions too, so that sums are easy."""

    there: Tensor  # [F], or [B, F] with a goal for each robot
    action_cost: float = 0.0  # of the squared action; iLQR needs more than 0 to be well-posed

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """[B, N, L, F], [B, N, L, A] -> [B, N, L]"""
        near = -(latents - self.there[..., None, None, :]).square().mean(-1)
        return near - self.action_cost * actions.square().sum(-1) if self.action_cost else near

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return self(futures.features.float(), actions)

    def cost(self, features: Tensor, action: Tensor) -> Tensor:
        """[F], [A] -> []"""
        return self.final_cost(features) + self.action_cost * action.square().sum()

    def final_cost(self, features: Tensor) -> Tensor:
        """[F] -> []"""
        if self.there.dim() > 1:
            raise ValueError(
                f"goal: a planner with derivatives takes one goal [F] for all robots,"
                f" got {list(self.there.shape)}; plan for one robot at a time"
            )
        return (features - self.there).square().mean()
