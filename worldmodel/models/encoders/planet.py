"""PlaNet's encoder: four convolutions, only for images of 64x64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.convolutions import FewWindows, Windowed


@dataclass(frozen=True)
class PlanetSettings:
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["planet"] = "planet"
    width: Annotated[int, at_least(1)] = 32
    """Channels of the encoder's first layer; each further layer doubles them. Larger: slower, and
    finer."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        return "64" if size != 64 else ""

    def build(self, size: int, channels: int) -> PlanetEncoder:
        return PlanetEncoder(channels, self.width)


class PlanetEncoder(nn.Module):
    """Four convolutions without padding: 64 -> 31 -> 14 -> 6 -> 2 (PlaNet's, 64x64 only)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        self.net = nn.Sequential(
            nn.Conv2d(widths[0], widths[1], 4, 2), nn.ReLU(),
            nn.Conv2d(widths[1], widths[2], 4, 2), nn.ReLU(),
            Windowed(widths[2], widths[3], 4), nn.ReLU(),
            FewWindows(widths[3], widths[4], 4), nn.ReLU(),
        )  # fmt: skip
        self.embed_size = widths[-1] * 2 * 2

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        hidden: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        return hidden.reshape(*pixels.shape[:-3], self.embed_size)
