"""The reward's negative log-probability under the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Reward:
    needs: ClassVar[frozenset[str]] = frozenset({"head:reward"})

    weight: Annotated[float, at_least(0)] = 10.0  # for the reason of kl.dynamics
    """Weight of the rewards' negative log-probability. Larger: latents hold more of what decides
    rewards."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        log_prob = model.reward.log_prob(seen.posterior.features, seen.batch.reward)
        return {"reward": -self.weight * log_prob}
