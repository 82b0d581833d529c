"""Contrast: compares what the past foresees with images, in a space where both have a direction."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.checks import at_least, more_than
from worldmodel.models.encoders import Encoder
from worldmodel.models.layers import Layer, mlp


@dataclass(frozen=True)
class ContrastSettings:
    size: Annotated[int, at_least(2)] = 32
    """Numbers by which a prediction is compared with an image. Larger: finer differences count."""
    hidden_size: Annotated[int, at_least(1)] = 128
    """Width of the hidden layer that predicts. Larger: slower, and more can be learned."""
    target_rate: Annotated[float, more_than(0, at_most=1)] = 0.05
    """How fast the slow encoder, which reads the images to be told apart, follows the encoder. 1:
    it is the encoder of the update before."""

    def build(self, features: int, encoder: Encoder, layer: Layer) -> Contrast:
        return Contrast(self, features, encoder, layer)


class Contrast(nn.Module):
    """Two unit vectors for each row, of its prior and of its image::

        features of the prior -> predict -> query            image -> slow encoder -> project -> key

    No gradient reaches the slow encoder: it is a moving average of the encoder. Were it the encoder
    itself, an update could make images different in what is easy to tell, not in what is foreseen.
    """

    def __init__(
        self, settings: ContrastSettings, features: int, encoder: Encoder, layer: Layer
    ) -> None:
        super().__init__()
        self.target_rate = settings.target_rate
        width = settings.hidden_size
        self.predict = nn.Sequential(
            mlp(features, width, 1, layer), nn.Linear(width, settings.size)
        )
        self.project = nn.Linear(encoder.embed_size, settings.size)
        self.slow_encoder = copy.deepcopy(encoder).requires_grad_(False)

    def queries(self, features: Tensor) -> Tensor:
        """[..., F] -> unit vectors [..., P]"""
        return functional.normalize(self.predict(features).float(), dim=-1)

    def keys(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> unit vectors [..., P]"""
        with torch.no_grad():
            embeds = self.slow_encoder(pixels)
        return functional.normalize(self.project(embeds).float(), dim=-1)

    @torch.no_grad()
    def follow(self, encoder: Encoder) -> None:
        """Move the slow encoder towards the encoder."""
        for slow, fast in zip(self.slow_encoder.parameters(), encoder.parameters(), strict=True):
            slow.lerp_(fast, self.target_rate)
