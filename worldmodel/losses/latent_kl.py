"""The latent KL of Embed to Control: the predicted latent meets the one that its image gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class LatentKL:
    """KL(prior || posterior), the other way round than ``KL``, without free nats.

    The prior is a Gaussian after a linear step, N(A mu + B u + o, A S A'), so the divergence has a
    closed form (``Affine.divergence``). A row without one before it in its window has no loss.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"affine"})

    weight: Annotated[float, at_least(0)] = 0.25  # Embed to Control's, for its planar world
    """Weight of the divergence of predicted latents from those of their images. Larger: steps are
    foreseen better, and images drawn worse."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        prior, posterior = seen.prior.distribution, seen.posterior.distribution
        assert prior is not None
        return {"latent_kl": self.weight * prior.divergence(posterior) * seen.follows}
