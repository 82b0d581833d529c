"""An ensemble of predictors beside any dynamics: where they disagree, the model does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.layers import Layer, mlp

HIDDEN_LAYERS = 2


@dataclass(frozen=True)
class EnsembleSettings:
    size: Annotated[int, at_least(2)] = 5
    """Members of the ensemble. Larger: a surer disagreement, and slower plans that use it."""
    hidden_size: Annotated[int, at_least(1)] = 128
    """Width of each member's hidden layers. Larger: slower, and more can be learned."""

    def build(self, features: int, embed_size: int, layer: Layer) -> Ensemble:
        return Ensemble(self, features, embed_size, layer)


class Ensemble(nn.Module):
    """Members that differ in nothing but their first weights predict the same::

        latent before, action -> dynamics -> prior of a row -> member k -> embedding of its image

    Where there were data, all have learned the same. Elsewhere nothing made them agree. The members
    of Plan2Explore read the latent before and the action; these read the prior, which follows from
    both, so that they fit any dynamics and cost a plan no second look at the actions.
    """

    def __init__(
        self, settings: EnsembleSettings, features: int, embed_size: int, layer: Layer
    ) -> None:
        super().__init__()
        width = settings.hidden_size
        self.members = nn.ModuleList(
            nn.Sequential(mlp(features, width, HIDDEN_LAYERS, layer), nn.Linear(width, embed_size))
            for _ in range(settings.size)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [..., K, E]"""
        return torch.stack([member(features).float() for member in self.members], -2)

    def disagreement(self, features: Tensor) -> Tensor:
        """The variance over the members, averaged over what they predict: [..., F] -> [...]"""
        predicted: Tensor = self(features)
        # of differences from the first, so that equal members give 0 and no rounding
        apart = predicted - predicted[..., :1, :]
        return apart.var(-2, correction=0).mean(-1)
