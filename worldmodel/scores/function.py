"""A user's own function as a score."""

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
    function: LatentScore

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        return self.function(futures.features.float(), actions)
