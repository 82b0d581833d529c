"""The discount's negative log-probability: whether the task goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Discount:
    needs: ClassVar[frozenset[str]] = frozenset({"head:discount"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the loss of the head that predicts whether the task goes on. Larger: ends of the
    task shape latents more."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        log_prob = model.discount.log_prob(seen.posterior.features, seen.batch.discount)
        return {"discount": -self.weight * log_prob}
