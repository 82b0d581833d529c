"""Function scores: a user's own function of features and actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent

LatentScore = Callable[[Tensor, Tensor], Tensor]
"""A user's reward: latents [B, N, L, F], actions [B, N, L, A] -> [B, N, L], summed over L."""


@dataclass(frozen=True)
class Function:
    """A score that calls the user's function for every row."""

    function: LatentScore

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return self.function(futures.features.float(), actions)
