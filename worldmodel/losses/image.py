"""The image's reconstruction error: half the squared distance, a unit Gaussian over pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.models import WorldModel
from worldmodel.models.fast.image_error import image_error
from worldmodel.models.world import Inference
from worldmodel.structs import at, flatten


@dataclass(frozen=True)
class Image:
    needs: ClassVar[frozenset[str]] = frozenset({"decoder"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the error of drawn images. Larger: latents hold more of what images show, needed or
    not."""
    decoded_share: Annotated[float, more_than(0, at_most=1)] = 0.125
    """Share of the rows that are drawn, at random in each update. Smaller: faster updates with
    noisier gradients, the same on average."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        shape, device = seen.batch.valid.shape, seen.pixels.device
        latents = flatten(seen.posterior)
        target = rearrange(seen.pixels, "b t c h w -> (b t) c h w")
        rows = len(target)
        count = max(1, round(self.decoded_share * rows))
        chosen = torch.arange(rows, device=device)
        if count < rows:
            chosen = torch.randperm(rows, generator=random, device=device)[:count]
            latents, target = at(latents, chosen), target[chosen]
        error = image_error(model.draw(latents), target)  # [chosen]
        image = torch.zeros(rows, device=device)
        image = image.index_put((chosen,), error * (self.weight * rows / count))
        return {"image": image.reshape(shape)}
