"""Vectors: the encoder and decoder of named vectors, such as a robot's joints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldmodel.models.heads import symexp, symlog
from worldmodel.models.layers import Layer, mlp

EMBED_SIZE = 64  # the image's is 256; not studied
LAYERS, WIDTH = 2, 128


class Vectors(nn.Module):
    """An encoder and a decoder of vectors, in addition to those of the image.

    Inputs and predictions are symlog, so numbers of unknown scale, millimetres or tonnes, need no
    statistics to be fitted. Names have a fixed order: that of ``sizes``.
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
        vectors = [symexp(part) for part in parts]
        return dict(zip(self.sizes, vectors, strict=True))

    def join(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """name -> [..., V] -> their concatenation in symlog, [..., sum of V]"""
        return symlog(torch.cat([vectors[name] for name in self.sizes], -1))
