"""The slim decoder: one dense layer, then transposed convolutions that double the side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from einops import rearrange
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.convolutions import Doubling, FewPixels, Transposed
from worldmodel.models.layers import ChannelNorm
from worldmodel.structs import Latent


@dataclass(frozen=True)
class SlimSettings:
    kind: Literal["slim"] = "slim"
    width: Annotated[int, at_least(1)] = 16
    """Channels of the decoder's last layer but one; each layer before has twice as many. Larger:
    slower, and sharper."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it makes, if ``size`` is not one of them; else empty."""
        return "a multiple of 16" if size % 16 else ""

    def build(self, feature_size: int, size: int, channels: int) -> SlimDecoder:
        return SlimDecoder(feature_size, size, channels, self.width)


class SlimDecoder(nn.Module):
    """A dense layer, then four transposed convolutions whose kernels overlap.

    Overlapping kernels draw thin things, which patches that do not overlap leave out.
    """

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

    def forward(self, latent: Latent) -> Tensor:
        """[...] -> [..., C, H, W]"""
        features = latent.features
        hidden: Tensor = self.start(features.reshape(-1, features.shape[-1]))
        grid = rearrange(hidden, "m (c h w) -> m c h w", h=self.grid, w=self.grid)
        return self.net(grid).reshape(*features.shape[:-1], *self.shape)  # type: ignore[no-any-return]
