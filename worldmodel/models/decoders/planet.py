"""PlaNet's decoder: four transposed convolutions, only for images of 64x64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.convolutions import Doubling, FewPixels, FromOnePixel
from worldmodel.structs import Latent


@dataclass(frozen=True)
class PlanetSettings:
    kind: Literal["planet"] = "planet"
    width: Annotated[int, at_least(1)] = 32
    """Channels of the decoder's last layer but one; each layer before has twice as many. Larger:
    slower, and sharper."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it makes, if ``size`` is not one of them; else empty."""
        return "64" if size != 64 else ""

    def build(self, feature_size: int, size: int, channels: int) -> PlanetDecoder:
        return PlanetDecoder(feature_size, size, channels, self.width)


class PlanetDecoder(nn.Module):
    """A dense layer and four transposed convolutions: 1 -> 5 -> 13 -> 30 -> 64 (64x64 only)."""

    def __init__(self, feature_size: int, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.start = nn.Linear(feature_size, 32 * width)
        self.net = nn.Sequential(
            FromOnePixel(32 * width, 4 * width, 5, 2), nn.ReLU(),
            FewPixels(4 * width, 2 * width, 5), nn.ReLU(),
            Doubling(2 * width, width, 6), nn.ReLU(),
            Doubling(width, channels, 6),
        )  # fmt: skip

    def forward(self, latent: Latent) -> Tensor:
        """[...] -> [..., C, H, W]"""
        features = latent.features
        first = self.net[0]
        assert isinstance(first, FromOnePixel)
        hidden: Tensor = first.after(self.start, features.reshape(-1, features.shape[-1]))
        hidden = self.net[1:](hidden)
        return hidden.reshape(*features.shape[:-1], *self.shape)
