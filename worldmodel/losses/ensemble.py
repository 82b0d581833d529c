"""The ensemble's prediction error: each member predicts the embedding of the next image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Ensemble:
    """Half the squared error of each member, the mean over numbers, summed over the members.

    No gradient leaves the ensemble: the model learns as if there were none. A row without one
    before it in its window has no loss.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"ensemble", "dynamics"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the errors of the ensemble, which changes no other part. Larger: it learns faster
    where gradients are small."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        assert model.ensemble is not None
        predicted = model.ensemble(seen.prior.features.detach())  # [B, T, K, E]
        error = 0.5 * (predicted - seen.embeds.detach()[..., None, :]).square().mean(-1).sum(-1)
        return {"ensemble": self.weight * error * seen.follows}
