"""The smoother q(s_t | o_1:T, a_1:T): a posterior of the past, the newest image and the future."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.layers import CELLS, Layers, layer_of
from worldmodel.models.posteriors.filter import Filter
from worldmodel.structs import stack


@dataclass(frozen=True)
class SmootherSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"gaussian", "remembered"})

    kind: Literal["smoother"] = "smoother"
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers that join the image with past and future. Larger: slower, and more can be
    learned."""
    future_size: Annotated[int, at_least(1)] = 128
    """Numbers that sum up the later rows of a window. Larger: slower, and more of the future is
    read."""
    acting_filter: bool = True
    """Whether a filter is learned together with the smoother, by objective.acting. It acts, because
    later images do not exist yet. Without it the model can learn, and not act."""

    @property
    def offers(self) -> frozenset[str]:
        return frozenset({"acting_filter"} if self.acting_filter else ())

    def build(
        self,
        context_size: int,
        embed_size: int,
        action_size: int,
        statistics_size: int,
        layers: Layers,
    ) -> Smoother:
        layer = layer_of(layers)
        of_all = Filter(
            context_size, embed_size + self.future_size, self.hidden_size, statistics_size, layer
        )
        of_past = Filter(context_size, embed_size, self.hidden_size, statistics_size, layer)
        cell = CELLS[layers](embed_size + action_size, self.future_size)
        return Smoother(of_all, cell, self.future_size, of_past if self.acting_filter else None)


class Smoother(nn.Module):
    """A filter that also reads the later rows, which a recurrent cell sums up backwards::

        later_t = cell(row t+1, later_t+1)                   row: embedding and action
        statistics_t = of_all(context_t, image_t, later_t)

    It is for learning only. ``acting`` is a filter of its own, or None.
    """

    def __init__(
        self, of_all: Filter, cell: nn.Module, future_size: int, acting: Filter | None
    ) -> None:
        super().__init__()
        self.of_all, self.cell, self.future_size = of_all, cell, future_size
        self.acting = acting

    def evidence(self, embeds: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
        """[B, T, E], [B, T, A], [B, T] -> [B, T, H]"""
        later = self.later(torch.cat([embeds, actions], -1), valid)
        return self.of_all.evidence(torch.cat([embeds, later], -1), actions, valid)

    def later(self, rows: Tensor, valid: Tensor) -> Tensor:
        """What the rows after each row say: [B, T, E + A], [B, T] -> [B, T, future_size]"""
        state = rows.new_zeros(len(rows), self.future_size)
        later = []
        for row in reversed(range(rows.shape[1])):
            later.append(state)
            state = torch.where(valid[:, row, None], self.cell(rows[:, row], state), state)
        return stack(reversed(later), 1)

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[..., C], [..., H] -> [..., P]"""
        return self.of_all.correct(context, evidence)
