"""A transformer's block, and fixed positions on a grid (Vaswani et al. 2017, arXiv 1706.03762)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Self-attention, then a small network for each token; both add to the tokens.

    attention: softmax(Q K' / sqrt(d)) V for each head, where Q, K and V are products of the tokens
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[M, P, W] -> [M, P, W]"""
        queries, keys, values = self._split(tokens)
        seen = functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.join(rearrange(seen, "m h p d -> m p (h d)"))
        changed: Tensor = tokens + self.net(tokens)
        return changed

    def weights(self, tokens: Tensor) -> Tensor:
        """How much each token reads of each other: [M, P, W] -> [M, heads, P, P], rows sum to 1"""
        queries, keys, _ = self._split(tokens)
        weights: Tensor = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(-1)
        return weights

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[M, P, W] -> queries, keys and values of each head, [M, heads, P, d]"""
        joined = self.queries_keys_values(self.norm(tokens))
        queries, keys, values = rearrange(
            joined, "m p (part h d) -> part m h p d", part=3, h=self.heads
        )
        return queries, keys, values


def sine_positions(side: int, width: int) -> Tensor:
    """Fixed positions of a grid of ``side`` x ``side``: [P, W]

    Half of the numbers tell the row, half the column, each as sines and cosines of many lengths.
    """
    rates = 10_000.0 ** -torch.arange(0, 1, 4 / width)  # [W / 4]
    angles = torch.arange(side)[:, None] * rates
    along = torch.cat([angles.sin(), angles.cos()], -1)  # [side, W / 2]
    rows, columns = (along.repeat_interleave(side, 0), along.repeat(side, 1))
    return torch.cat([rows, columns], -1)
