"""From features back to an image: the mean of a unit Gaussian over pixels."""

from __future__ import annotations

from torch import Tensor, nn

from worldmodel.models.fast.convolutions import Doubling, FewPixels, FromOnePixel, Transposed
from worldmodel.models.layers import ChannelNorm


class SlimDecoder(nn.Module):
    """A product, then overlapping transposed convolutions: they draw thin things, where patches
    that do not overlap leave them out."""

    def __init__(self, feature_size: int, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.grid = size // 16
        self.shape = (channels, size, size)
        widths = (8 * width, 4 * width, 2 * width, width)
        self.start = nn.Linear(feature_size, widths[0] * self.grid**2)
        self.net = nn.Sequential(
            ChannelNorm(widths[0]), nn.SiLU(),
            FewPixels(widths[0], widths[1], 4, padding=1), ChannelNorm(widths[1]), nn.SiLU(),
            Transposed(widths[1], widths[2], 4, padding=1), ChannelNorm(widths[2]), nn.SiLU(),
            Doubling(widths[2], widths[3], 4, padding=1), nn.SiLU(),
            Doubling(widths[3], channels, 4, padding=1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [..., C, H, W]"""
        hidden: Tensor = self.start(features.reshape(-1, features.shape[-1]))
        hidden = self.net(hidden.reshape(hidden.shape[0], -1, self.grid, self.grid))
        return hidden.reshape(*features.shape[:-1], *self.shape)


class PlanetDecoder(nn.Module):
    """1 -> 5 -> 13 -> 30 -> 64 (PlaNet's, 64x64 only)."""

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

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [..., C, H, W]"""
        first = self.net[0]
        assert isinstance(first, FromOnePixel)
        hidden: Tensor = first.after(self.start, features.reshape(-1, features.shape[-1]))
        hidden = self.net[1:](hidden)
        return hidden.reshape(*features.shape[:-1], *self.shape)
