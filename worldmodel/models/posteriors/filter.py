"""The filter q(s_t | o_1:t, a_1:t): a posterior of the past and the newest image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.fast.onednn import Linear
from worldmodel.models.layers import Layer, Layers, layer_of


@dataclass(frozen=True)
class FilterSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"gaussian", "remembered"})
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["filter"] = "filter"
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers that join the image with the past. Larger: slower, and more can be
    learned."""

    def build(
        self,
        context_size: int,
        embed_size: int,
        action_size: int,
        statistics_size: int,
        layers: Layers,
    ) -> Filter:
        layer = layer_of(layers)
        return Filter(context_size, embed_size, self.hidden_size, statistics_size, layer)


class Filter(nn.Module):
    """A small network of context and embedding::

        statistics = rest(of_context(context) + of_embed(embed))

    The embedding's product needs no past, so ``evidence`` computes it for all times at once.
    ``correct`` adds the context's product.
    """

    def __init__(
        self,
        context_size: int,
        embed_size: int,
        hidden_size: int,
        statistics_size: int,
        layer: Layer,
    ) -> None:
        super().__init__()
        # Draw the weights of one layer and split them: their scale is that of all its inputs.
        first, *rest = layer(context_size + embed_size, hidden_size).children()
        assert isinstance(first, nn.Linear)
        of_context, of_embed = first.weight.detach().tensor_split([context_size], 1)
        self.of_context = _linear(of_context, None)
        self.of_embed = _linear(of_embed, first.bias)  # no bias before a LayerNorm
        self.rest = nn.Sequential(*rest, nn.Linear(hidden_size, statistics_size))

    def evidence(self, embeds: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
        """[..., E] -> [..., H]"""
        evidence: Tensor = self.of_embed(embeds)
        return evidence

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[..., C], [..., H] -> [..., P]"""
        statistics: Tensor = self.rest(evidence + self.of_context(context))
        return statistics

    @property
    def acting(self) -> Filter:
        return self


def _linear(weight: Tensor, bias: nn.Parameter | None) -> Linear:
    """A dense layer with given parameters: no random number is drawn for it."""
    linear = Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    linear.bias = bias  # type: ignore[assignment]
    return linear
