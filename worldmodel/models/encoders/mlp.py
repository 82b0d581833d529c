"""The dense encoder: layers that read all pixels at once, for small images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.layers import mlp, plain


@dataclass(frozen=True)
class MLPSettings:
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["mlp"] = "mlp"
    width: Annotated[int, at_least(1)] = 150  # Embed to Control's, for its planar world
    """Width of the dense layers, and so of the embedding. Larger: slower, and finer."""
    layers: Annotated[int, at_least(1)] = 2
    """Dense layers of the encoder. The posterior has one more."""

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        return ""

    def build(self, size: int, channels: int) -> MLPEncoder:
        return MLPEncoder(size, channels, self.width, self.layers)


class MLPEncoder(nn.Module):
    """Dense layers with ReLU. Where a small thing is decides all of the embedding at once."""

    def __init__(self, size: int, channels: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed_size = width
        self.net = mlp(channels * size**2, width, layers, plain)

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        flat = pixels.movedim(-3, -1).flatten(-3)  # channels last, as in memory: no copy
        embed: Tensor = self.net(flat)
        return embed
