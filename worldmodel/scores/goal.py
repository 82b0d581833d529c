"""Goal scores: minus the mean squared distance from the features of a goal image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Goal:
    """A score that is highest at the ``target`` features.

    It can also be called on features and actions, so that scores can be summed in one line.
    """

    target: Tensor  # [F], or [B, F] with a goal for each robot
    action_cost: float = 0.0  # of the squared action; iLQR needs more than 0 to be well-posed

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """[B, N, L, F], [B, N, L, A] -> [B, N, L]"""
        closeness = -(latents - self.target[..., None, None, :]).square().mean(-1)
        if not self.action_cost:
            return closeness
        return closeness - self.action_cost * actions.square().sum(-1)

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return self(futures.features.float(), actions)

    def cost(self, features: Tensor, action: Tensor) -> Tensor:
        """[F], [A] -> []"""
        return self.final_cost(features) + self.action_cost * action.square().sum()

    def final_cost(self, features: Tensor) -> Tensor:
        """[F] -> []"""
        if self.target.dim() > 1:
            raise ValueError(
                f"goal: the cost is that of one goal [F], got {list(self.target.shape)}"
            )
        return (features - self.target).square().mean()
