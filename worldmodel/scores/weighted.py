"""Weighted scores: a weighted sum of other scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.scores.score import FutureScore
from worldmodel.structs import Latent


@dataclass(frozen=True)
class Weighted:
    """``Weighted([(1.0, RewardSum(0.99)), (0.1, goal)])``"""

    parts: Sequence[tuple[float, FutureScore]]

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        rows = [weight * score.of_rows(futures, actions, heads) for weight, score in self.parts]
        return torch.stack(rows).sum(0)
