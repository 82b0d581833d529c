"""The pixels themselves as an embedding: nothing is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class PixelsSettings:
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["pixels"] = "pixels"

    def wrong_size(self, size: int) -> str:
        """Empty: images of every size are taken."""
        return ""

    def build(self, size: int, channels: int) -> PixelsEncoder:
        return PixelsEncoder(size, channels)


class PixelsEncoder(nn.Module):
    """An encoder without parameters, for models that predict in image space."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embed_size = channels * size * size

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E], where E is C * H * W"""
        return pixels.flatten(-3)
