"""The prediction error of the vectors, such as a robot's joints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Vectors:
    """The vectors' negative log-probability; no loss if the environment has no vectors."""

    needs: ClassVar[frozenset[str]] = frozenset()

    weight: Annotated[float, at_least(0)] = 10.0  # as the reward's; not studied
    """Weight of the vectors' negative log-probability, where rows hold vectors. Larger: latents
    hold more of them."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        if model.vectors is None:
            return {}
        log_prob = model.vectors.log_prob(seen.posterior.features, seen.batch.vectors)
        return {"vectors": -self.weight * log_prob}
