"""The patch encoder: one product for each patch of 4x4 pixels, then small convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from einops import rearrange
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.convolutions import Patches


@dataclass(frozen=True)
class PatchSettings:
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["patch"] = "patch"
    width: Annotated[int, at_least(1)] = 16
    """Channels of the encoder's first layer; each further layer doubles them. Larger: slower, and
    finer."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        return "a multiple of 16" if size % 16 else ""

    def build(self, size: int, channels: int) -> PatchEncoder:
        return PatchEncoder(size, channels, self.width)


class PatchEncoder(nn.Module):
    """Patches of 4x4 pixels, two convolutions of 3x3 with strides of two, then one product."""

    embed_size = 256

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.net = nn.Sequential(
            Patches(channels, widths[0], 4), nn.SiLU(),
            nn.Conv2d(widths[0], widths[1], 3, 2, 1), nn.SiLU(),
            nn.Conv2d(widths[1], widths[2], 3, 2, 1), nn.SiLU(),
        )  # fmt: skip
        self.last = nn.Linear(widths[2] * (size // 16) ** 2, self.embed_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        hidden: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        # channels last, as in memory: no copy
        embed: Tensor = self.last(rearrange(hidden, "m c h w -> m (h w c)"))
        return embed.reshape(*pixels.shape[:-3], self.embed_size)
