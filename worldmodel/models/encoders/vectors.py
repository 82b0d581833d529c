"""Named vectors beside the image, as a robot's own joints: into the embedding, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldmodel.models.heads import symexp, symlog
from worldmodel.models.layers import Layer, mlp

EMBED_SIZE = 64  # beside the image's 256; not studied
LAYERS, WIDTH = 2, 128


class Vectors(nn.Module):
    """An encoder to stand beside the image's, and a decoder that holds it to what it saw.

    Numbers of unknown size go in and are predicted as symlog, which keeps millimetres and tonnes
    apart without statistics to fit. Names have a fixed order: that of ``sizes``.
    """

    def __init__(self, features: int, sizes: Mapping[str, int], layer: Layer) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.embed_size = EMBED_SIZE
        total = sum(self.sizes.values())
        self.encoder = nn.Sequential(
            mlp(total, WIDTH, LAYERS, layer), nn.Linear(WIDTH, self.embed_size)
        )
        self.decoder = nn.Sequential(mlp(features, WIDTH, LAYERS, layer), nn.Linear(WIDTH, total))

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """name -> [..., V] -> [..., E]"""
        embed: Tensor = self.encoder(self.join(vectors))
        return embed

    def log_prob(self, features: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """[..., F], name -> [..., V] -> [...]: a unit Gaussian in symlog, without its constant"""
        error: Tensor = self.decoder(features).float() - self.join(vectors)
        return -0.5 * error.square().sum(-1)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """[..., F] -> name -> [..., V]"""
        parts = self.decoder(features).float().split(list(self.sizes.values()), -1)
        grown = [symexp(part) for part in parts]
        return dict(zip(self.sizes, grown, strict=True))

    def join(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """name -> [..., V] -> [..., all of them]"""
        return symlog(torch.cat([vectors[name] for name in self.sizes], -1))
