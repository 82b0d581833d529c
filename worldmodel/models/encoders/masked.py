"""The masked autoencoder: an encoder that learns by drawing the patches that it did not see.

He et al. 2022, arXiv 2111.06377; for control Seo et al. 2022, arXiv 2206.14244.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than, require
from worldmodel.models.transformer import Block, sine_positions

HEADS = 4
# Of the first weights: with PyTorch's own, positions outweigh colours tenfold. Not studied.
GAIN = 3.0


@dataclass(frozen=True)
class MaskedSettings:
    offers: ClassVar[frozenset[str]] = frozenset({"masked_encoder"})

    kind: Literal["masked"] = "masked"
    # 8x8 patches of a 64x64 image, as Masked World Models has
    patch: Annotated[int, at_least(2)] = 8
    """Side of a patch, in pixels; even. Smaller: finer, and slower with the square of the number of
    patches."""
    token_size: Annotated[int, at_least(32)] = 64
    """Numbers of a token inside the transformer, a multiple of 32. Larger: slower, and more can be
    learned."""
    layers: Annotated[int, at_least(1)] = 2
    """Transformer blocks of the encoder. Larger: slower, and more can be learned."""
    decoder_layers: Annotated[int, at_least(1)] = 1
    """Transformer blocks that draw the hidden patches, in learning only."""
    patch_features: Annotated[int, at_least(1)] = 8
    """Numbers of each patch that leave the encoder. Larger: features hold more of each patch."""
    masked: Annotated[float, more_than(0, at_most=0.95)] = 0.75
    """Share of the patches that are hidden in learning. Larger: a harder task, and faster."""

    def check(self, path: str) -> None:
        require(self.patch % 2 == 0, f"{path}.patch: expected an even number, got {self.patch}")
        require(
            self.token_size % (8 * HEADS) == 0,
            f"{path}.token_size: expected a multiple of {8 * HEADS}, got {self.token_size}",
        )

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        fits = size % self.patch == 0 and size // self.patch > 1
        return "" if fits else f"two or more whole patches of {self.patch} pixels in a row"

    def build(self, size: int, channels: int) -> MaskedEncoder:
        return MaskedEncoder(self, size, channels)


class Hidden(NamedTuple):
    """A random choice of patches for each image."""

    seen: Tensor  # [M, K] the patches that the encoder reads
    hidden: Tensor  # [M, P - K] the others


class MaskedEncoder(nn.Module):
    """Patches become tokens, and a transformer reads them; the features are all tokens.

    ::

        features  = encode(all patches)                  # to act: nothing is hidden
        drawn     = draw(encode(patches, seen), seen)    # to learn: from a quarter of the patches

    A convolution over each patch alone makes its token, so a hidden patch reaches no token.
    """

    positions: Tensor
    drawn_positions: Tensor

    def __init__(self, settings: MaskedSettings, size: int, channels: int) -> None:
        super().__init__()
        width, patch, side = settings.token_size, settings.patch, size // settings.patch
        self.patch, self.count = patch, side**2
        self.kept = max(1, round(self.count * (1 - settings.masked)))
        self.embed_size = self.count * settings.patch_features
        self.register_buffer("positions", sine_positions(side, width), persistent=False)
        fine = nn.Conv2d(channels, width // 2, patch // 2, patch // 2)
        coarse = nn.Conv2d(width // 2, width, 2, 2)
        for layer in (fine, coarse):
            layer.weight.data.mul_(GAIN)
        self.tokens = nn.Sequential(fine, nn.SiLU(), coarse)
        self.blocks = nn.Sequential(*(Block(width, HEADS) for _ in range(settings.layers)))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, settings.patch_features))
        drawn = width // 2  # who draws may be small: to act, only the encoder is needed
        self.register_buffer("drawn_positions", sine_positions(side, drawn), persistent=False)
        self.widen = nn.Linear(settings.patch_features, drawn)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(drawn))
        self.decoder = nn.Sequential(
            *(Block(drawn, HEADS) for _ in range(settings.decoder_layers)),
            nn.LayerNorm(drawn), nn.Linear(drawn, channels * patch**2),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E], every patch is seen"""
        patches = self.cut(pixels.reshape(-1, *pixels.shape[-3:]))
        features = self.read(self.tokens_of(patches) + self.positions)
        return features.reshape(*pixels.shape[:-3], self.embed_size)

    def cut(self, pixels: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, P, Q] the patches, in the order of reading"""
        p = self.patch
        return rearrange(pixels, "m c (y p) (x q) -> m (y x) (c p q)", p=p, q=p)

    def tokens_of(self, patches: Tensor) -> Tensor:
        """[M, K, Q] -> [M, K, W] of each patch alone"""
        p = self.patch
        images = rearrange(patches, "m k (c p q) -> (m k) c p q", p=p, q=p)
        tokens: Tensor = self.tokens(images)  # [M K, W, 1, 1]
        return rearrange(tokens, "(m k) w 1 1 -> m k w", m=len(patches))

    def read(self, tokens: Tensor) -> Tensor:
        """Tokens of some patches, with positions [M, K, W] -> their features [M, K, N]"""
        features: Tensor = self.last(self.blocks(tokens))
        return features

    def choose(self, images: int, random: torch.Generator) -> Hidden:
        """Shuffle the patches of each image; the first ones are seen."""
        noise = torch.rand(images, self.count, generator=random, device=self.positions.device)
        return Hidden(*noise.argsort(1).tensor_split([self.kept], 1))

    def encode(self, patches: Tensor, seen: Tensor) -> Tensor:
        """Read the seen patches only: [M, P, Q], [M, K] -> [M, K, N]"""
        return self.read(self.tokens_of(take(patches, seen)) + self.positions[seen])

    def draw(self, features: Tensor, seen: Tensor) -> Tensor:
        """Every patch from the seen ones: [M, K, N], [M, K] -> [M, P, Q]"""
        known = self.widen(features)
        tokens = self.hidden_token.to(known).expand(len(known), self.count, -1)
        places = seen[..., None].expand_as(known)
        drawn: Tensor = self.decoder(tokens.scatter(1, places, known) + self.drawn_positions)
        return drawn

    def attention(self, pixels: Tensor) -> Tensor:
        """How much each patch reads of each other: [M, C, H, W] -> [layers, M, heads, P, P]"""
        tokens, weights = self.tokens_of(self.cut(pixels)) + self.positions, []
        for block in self.blocks:
            assert isinstance(block, Block)
            weights.append(block.weights(tokens))
            tokens = block(tokens)
        return torch.stack(weights)


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """[M, P, W], [M, K] -> [M, K, W]"""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
