"""The KL divergence of the posterior from the unit Gaussian: the prior of a plain VAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.latents import Gaussian
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class UnitKL:
    """KL(q(z | x) || N(0, I)): latents stay near zero, and neighbours get similar images."""

    needs: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the divergence of latents from a unit Gaussian. Larger: latents hold less of what
    images show."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        posterior = seen.posterior.distribution
        assert isinstance(posterior, Gaussian)
        zero = torch.zeros_like(posterior.mean)
        unit = Gaussian(zero, torch.ones_like(zero), zero)
        return {"unit_kl": self.weight * posterior.divergence(unit)}
