"""The error of patches that the encoder did not see, drawn from those that it saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.models import WorldModel
from worldmodel.models.encoders.masked import MaskedEncoder, take
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class MaskedPatches:
    """Half the squared error of hidden patches, scaled up to a whole image.

    Patches that were seen do not count: to copy them needs no understanding.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masked_encoder"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the error of hidden patches. Larger: the encoder learns more from images alone."""
    share: Annotated[float, more_than(0, at_most=1)] = 0.125  # as image.decoded_share
    """Share of the rows whose patches are hidden and drawn, at random in each update. Smaller:
    faster updates with noisier gradients, the same on average."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        pixels = seen.pixels.flatten(0, 1)
        rows = len(pixels)
        count = max(1, round(self.share * rows))
        chosen = torch.randperm(rows, generator=random, device=pixels.device)[:count]
        assert isinstance(model.encoder, MaskedEncoder)
        error = masked_error(model.encoder, pixels[chosen], random) * (rows / count)
        scattered = torch.zeros(rows, device=pixels.device).index_put((chosen,), error)
        return {"masked_patches": self.weight * scattered.reshape(seen.batch.valid.shape)}


def masked_error(encoder: MaskedEncoder, pixels: Tensor, random: torch.Generator) -> Tensor:
    """Hide patches at random, and draw them: [M, C, H, W] -> [M]"""
    patches = encoder.cut(pixels)
    seen, hidden = encoder.choose(len(pixels), random)
    drawn = encoder.draw(encoder.encode(patches, seen), seen)
    return patch_error(drawn, patches, hidden)


def patch_error(drawn: Tensor, truth: Tensor, places: Tensor) -> Tensor:
    """Of some patches, scaled up to all: [M, P, Q], [M, P, Q], [M, K] -> [M]"""
    error = 0.5 * (take(drawn.float(), places) - take(truth, places)).square().sum((1, 2))
    return error * (truth.shape[1] / places.shape[1])
