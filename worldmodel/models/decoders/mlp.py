"""The dense decoder: layers that draw all pixels at once, for small images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.layers import mlp, plain
from worldmodel.structs import Latent


@dataclass(frozen=True)
class MLPSettings:
    kind: Literal["mlp"] = "mlp"
    width: Annotated[int, at_least(1)] = 200  # Embed to Control's, for its planar world
    """Width of the dense layers. Larger: slower, and sharper."""
    layers: Annotated[int, at_least(1)] = 2
    """Dense layers before the one that gives the pixels. More: slower, and images may change faster
    with the latent."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it makes, if ``size`` is not one of them; else empty."""
        return ""

    def build(self, feature_size: int, size: int, channels: int) -> MLPDecoder:
        return MLPDecoder(feature_size, size, channels, self.width, self.layers)


class MLPDecoder(nn.Module):
    """Dense layers with ReLU, then one without that gives all pixels."""

    def __init__(
        self, feature_size: int, size: int, channels: int, width: int, layers: int
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.net = nn.Sequential(
            mlp(feature_size, width, layers, plain), nn.Linear(width, channels * size**2)
        )

    def forward(self, latent: Latent) -> Tensor:
        """[...] -> [..., C, H, W]"""
        features = latent.features
        drawn: Tensor = self.net(features)
        return drawn.reshape(*features.shape[:-1], *self.shape)
