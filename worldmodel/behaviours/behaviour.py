"""What every behaviour is to the learner: losses, and the parameters that they teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Loss:
    name: str
    value: Tensor  # []
    into: Sequence[nn.Parameter]  # those that its gradient reaches, and no others


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at a rate of their own."""

    parameters: Sequence[nn.Parameter]
    rate: float


class Behaviour(Protocol):
    def groups(self) -> list[ParameterGroup]:
        """What it teaches; the world model's own loss leaves these alone."""

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        """Of a batch that the model has observed, without its gradients; and figures to show."""

    def stepped(self) -> None:
        """Called after each step of the optimizer."""

    def state(self) -> dict[str, Tensor]:
        """What it remembers beside parameters, for a checkpoint."""

    def restore(self, state: Mapping[str, Tensor]) -> None: ...
