"""The slim encoder: three convolutions, the first with a stride of four."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least


@dataclass(frozen=True)
class SlimSettings:
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["slim"] = "slim"
    width: Annotated[int, at_least(1)] = 16
    """Half the channels of the encoder's first layer; each further layer doubles them. Larger:
    slower, and finer."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        return "a multiple of 16" if size % 16 else ""

    def build(self, size: int, channels: int) -> SlimEncoder:
        return SlimEncoder(size, channels, self.width)


class SlimEncoder(nn.Module):
    """Three convolutions, the first of 8x8 with a stride of four, then one dense layer."""

    embed_size = 256

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (2 * width, 4 * width, 8 * width)
        self.net = nn.Sequential(
            nn.Conv2d(channels, widths[0], 8, 4, 2), nn.SiLU(),
            nn.Conv2d(widths[0], widths[1], 4, 2, 1), nn.SiLU(),
            nn.Conv2d(widths[1], widths[2], 4, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(widths[2] * (size // 16) ** 2, self.embed_size),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        embed: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        return embed.reshape(*pixels.shape[:-3], self.embed_size)
