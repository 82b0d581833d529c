"""The filter q(s_t | o_1:t, a_1:t): the past and the newest image together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.onednn import multiplied
from worldmodel.models.layers import Layer


@dataclass(frozen=True)
class FilterSettings:
    kind: Literal["filter"] = "filter"
    hidden_size: Annotated[int, at_least(1)] = 256

    def build(
        self, context_size: int, embed_size: int, statistics_size: int, layer: Layer
    ) -> Filter:
        return Filter(context_size, embed_size, self.hidden_size, statistics_size, layer)


class Filter(nn.Module):
    """A small net of context and embedding together::

        statistics = rest(W_context context + W_embed embed + b)

    The embedding's product needs no past, so ``evidence`` computes it for all times at once;
    ``correct`` adds the context's.
    """

    fits: ClassVar[frozenset[str]] = frozenset({"gaussian", "remembered"})

    def __init__(
        self,
        context_size: int,
        embed_size: int,
        hidden_size: int,
        statistics_size: int,
        layer: Layer,
    ) -> None:
        super().__init__()
        # One layer, drawn as one, so that its initial scale is that of all its inputs.
        first, *rest = layer(context_size + embed_size, hidden_size).children()
        assert isinstance(first, nn.Linear)
        of_context, of_embed = first.weight.detach().tensor_split([context_size], 1)
        self.of_context = nn.Parameter(of_context.clone())  # [H, C]
        self.of_embed = nn.Parameter(of_embed.clone())  # [H, E]
        self.bias = first.bias  # [H], None before a LayerNorm
        self.rest = nn.Sequential(*rest, nn.Linear(hidden_size, statistics_size))

    def evidence(self, embeds: Tensor, actions: Tensor) -> Tensor:
        """[..., E] -> [..., H]"""
        return multiplied(embeds, self.of_embed, self.bias)

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[M, C], [M, H] -> [M, P]"""
        statistics: Tensor = self.rest(torch.addmm(evidence, context, self.of_context.t()))
        return statistics

    @property
    def acting(self) -> Filter:
        return self
