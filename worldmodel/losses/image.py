"""The image's reconstruction error: minus its log-probability under the model's likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.structs import Latent, at, flatten


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
        error = errors_of_some(model, seen.posterior, seen.pixels, self.decoded_share, random)
        return {"image": self.weight * error}


def errors_of_some(
    model: WorldModel, latent: Latent, pixels: Tensor, share: float, random: torch.Generator
) -> Tensor:
    """The errors of drawn images: latents [B, T], pixels [B, T, C, H, W] -> [B, T].

    Only a ``share`` of the rows is drawn, at random. Their errors are divided by that share, and
    the other rows are 0, so the mean over rows is the same on average.
    """
    latents, target = flatten(latent), rearrange(pixels, "b t c h w -> (b t) c h w")
    rows, device = len(target), pixels.device
    count = max(1, round(share * rows))
    chosen = torch.arange(rows, device=device)
    if count < rows:
        chosen = torch.randperm(rows, generator=random, device=device)[:count]
        latents, target = at(latents, chosen), target[chosen]
    error = model.image_error(latents, target)  # [chosen]
    scattered = torch.zeros(rows, device=device).index_put((chosen,), error * (rows / count))
    return scattered.reshape(latent.shape)
