"""The error of images that are drawn from the predicted latent, not from the one that was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.losses.image import errors_of_some
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class PredictedImage:
    """The prior of a row knows the row before and the action, and must draw this row's image.

    A row without one before it in its window has no loss.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"decoder", "dynamics"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the error of images that are drawn one row ahead. Larger: latents hold more of what
    decides the next image."""
    decoded_share: Annotated[float, more_than(0, at_most=1)] = 0.125
    """Share of the rows that are drawn, at random in each update. Smaller: faster updates with
    noisier gradients, the same on average."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        error = errors_of_some(model, seen.prior, seen.pixels, self.decoded_share, random)
        return {"predicted_image": self.weight * error * seen.follows}
