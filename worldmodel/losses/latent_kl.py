"""The latent KL of Embed to Control: the predicted latent meets the one that its image gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than, require
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
    first_weight: Annotated[float | None, more_than(0)] = None
    """Weight of the first updates, if not `weight`. Larger: actions lay out the map of latents
    before images fill it in. none: it is `weight` always."""
    first_updates: Annotated[int, at_least(1)] = 1000
    """Updates with `first_weight`; over as many again it falls to `weight`, by the same share at
    each. Larger: the map has more time to unfold."""

    def check(self, path: str) -> None:
        require(
            self.first_weight is None or self.weight > 0,
            f"{path}.weight: falling from {path}.first_weight = {self.first_weight} by a share at"
            " each update never reaches 0; write a weight above 0",
        )

    def at(self, updates: int) -> LatentKL:
        """This term with its weight after so many updates."""
        if self.first_weight is None:
            return self
        left = min(1.0, max(0.0, 2 - updates / self.first_updates))  # of the fall
        weight = self.weight * (self.first_weight / self.weight) ** left
        return replace(self, weight=weight)

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        prior, posterior = seen.prior.distribution, seen.posterior.distribution
        assert prior is not None
        return {"latent_kl": self.weight * prior.divergence(posterior) * seen.follows}
