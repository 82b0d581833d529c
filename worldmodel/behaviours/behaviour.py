"""The interface of every behaviour: losses, and the parameters that they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.structs import Batch


@dataclass(frozen=True)
class Loss:
    name: str
    value: Tensor  # []
    into: Sequence[nn.Parameter]  # the only parameters that its gradient changes


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a learning rate of their own."""

    parameters: Sequence[nn.Parameter]
    rate: float


Reads = Literal["replayed", "newest"]
"""Which rows a behaviour learns from: replayed ones, or those that its policy has just played."""


class Behaviour(Protocol):
    first_episode: int
    """Batches are drawn from the episodes with this number and later."""

    @property
    def tunes(self) -> Sequence[nn.Parameter]:
        """Parameters of the world model that its losses change too, next to the objective.

        Empty: no gradient reaches the posterior of a batch, which is then a constant.
        """

    def groups(self) -> list[ParameterGroup]:
        """The parameters that it trains; the world model's objective does not change these."""

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        """The losses of a batch that the model has observed, and figures for the log."""

    def acted(self, first_episode: int) -> None:
        """Called when the policy as it is now has played the episodes from this number on."""

    def stepped(self) -> None:
        """Called after each step of the optimizer."""

    def state(self) -> dict[str, Tensor]:
        """All that it keeps between updates except the model's parameters, for a checkpoint."""

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


@runtime_checkable
class LearnsFromRounds(Protocol):
    """A behaviour that also learns from the episodes of each round, as soon as they are played."""

    def collected(self, acting: WorldModel, played: Batch) -> dict[str, float]:
        """Learn from whole episodes [B, T], and return figures for the log.

        ``acting`` has the weights that act. No gradient is computed: what changes are buffers.
        """
