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
from worldmodel.structs import Latent, at


@dataclass(frozen=True)
class PredictedImage:
    """The prior of a row knows the row before and the action, and must draw this row's image.

    A row without one before it in its window has no loss. With ``context`` only so many rows are
    observed; each later one is predicted from the prediction before, so errors that add up cost.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"decoder", "dynamics"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the error of images that are drawn one row ahead. Larger: latents hold more of what
    decides the next image."""
    decoded_share: Annotated[float, more_than(0, at_most=1)] = 0.125
    """Share of the rows that are drawn, at random in each update. Smaller: faster updates with
    noisier gradients, the same on average."""
    context: Annotated[int | None, at_least(1)] = None
    """Rows of a window that are observed; the later ones are predicted without any image. none:
    every row is predicted from the row before, which was observed."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        def errors(prior: Latent, rows: slice) -> Tensor:
            return errors_of_some(model, prior, seen.pixels[:, rows], self.decoded_share, random)

        length = seen.pixels.shape[1]
        rows = length if self.context is None else min(self.context, length)
        error = errors(at(seen.prior, (slice(None), slice(rows))), slice(rows))
        if rows < length:
            last = at(seen.posterior, (slice(None), rows - 1))
            with torch.autocast(last.features.device.type, enabled=False):  # as in model.infer
                ahead = model.imagine(last, seen.batch.action[:, rows:], None)
            error = torch.cat([error, errors(ahead, slice(rows, length))], 1)
        return {"predicted_image": self.weight * error * seen.follows}
