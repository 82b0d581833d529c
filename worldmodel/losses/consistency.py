"""Latent consistency: the latent that was predicted meets the latent that the image gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Consistency:
    """Half the squared distance from the predicted latent to the encoded one, f(z, a) to z'.

    The gradient moves the prediction, and the encoder of the image before, towards the encoded
    latent, which stays where it is. If it moved too, both would meet at once where all images have
    the same latent. What keeps latents apart is the image's error, which needs a decoder, or that
    each image must be told from the others, which needs a contrast.

    The first row of a window has no row before it, so it has no loss.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"point", "decoder or contrast", "dynamics"})

    weight: Annotated[float, at_least(0)] = 10.0  # as the reward's; not studied
    """Weight of the distance between predicted and encoded latents. Larger: latents hold more of
    what can be foreseen, and less of what images show."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        apart = seen.prior.features - seen.posterior.features.detach()
        distance = 0.5 * apart.square().sum(-1)
        return {"consistency": self.weight * distance * seen.follows}
