"""The decoder of latents that hold a picture: the picture itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from worldmodel.models.latents import Scene


@dataclass(frozen=True)
class ItselfSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"scene"})

    kind: Literal["itself"] = "itself"

    def wrong_size(self, size: int) -> str:
        """Empty: a picture of any size is itself."""
        return ""

    def build(self, feature_size: int, size: int, channels: int) -> Itself:
        return Itself()


class Itself(nn.Module):
    """A decoder without parameters."""

    def forward(self, latent: Scene) -> Tensor:
        """[...] -> [..., C, H, W]"""
        return latent.image
