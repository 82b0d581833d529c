"""The recurrent state-space model with a categorical random part: Dreamer's second and third."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.latents import Categorical, Remembered, categorical_of
from worldmodel.models.layers import CELLS, Layers, layer_of


@dataclass(frozen=True)
class RecurrentCategoricalSettings:
    latent: ClassVar[str] = "remembered"
    offers: ClassVar[frozenset[str]] = frozenset({"distribution"})

    kind: Literal["recurrent_categorical"] = "recurrent_categorical"
    deter_size: Annotated[int, at_least(1)] = 256
    """Numbers of a latent that remember the past without chance. Larger: a longer memory, and
    slower imagining."""
    groups: Annotated[int, at_least(1)] = 16
    """Choices that are drawn at random: what the past does not decide. Larger: a latent can tell
    apart more situations, and is slower."""
    classes: Annotated[int, at_least(2)] = 16
    """Classes of each choice. Larger: finer steps, and slower."""
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers inside the dynamics. Larger: slower, and more can be learned."""

    def build(
        self, action_size: int, layers: Layers, image: tuple[int, int, int]
    ) -> RecurrentCategorical:
        return RecurrentCategorical(self, action_size, layers)


class RecurrentCategorical(nn.Module):
    """``Recurrent`` with another random part: G choices of K classes instead of S numbers::

        h' = cell(f(s, action), h)      prior s' ~ Cat(h')      posterior s' ~ Cat(h', embed)

    A Gaussian prior of two possible futures lies between both. A categorical one gives each its own
    class, and draws one of them.
    """

    def __init__(
        self, settings: RecurrentCategoricalSettings, action_size: int, layers: Layers
    ) -> None:
        super().__init__()
        layer, hidden_size = layer_of(layers), settings.hidden_size
        self.groups, self.classes = settings.groups, settings.classes
        self.context_size = self.deter_size = settings.deter_size
        self.noise_size = self.groups  # one normal number draws one choice
        self.statistics_size = self.groups * self.classes
        self.feature_size = self.deter_size + self.statistics_size
        self.join = layer(self.statistics_size + action_size, hidden_size)
        self.cell = CELLS[layers](hidden_size, self.deter_size)
        self.prior = nn.Sequential(
            layer(self.deter_size, hidden_size), nn.Linear(hidden_size, self.statistics_size)
        )

    def initial(self, *batch: int) -> Remembered:
        """No memory, all classes equally likely, and none of them drawn."""
        parameter = next(self.parameters())
        deter = parameter.new_zeros(*batch, self.deter_size)
        none = parameter.new_zeros(*batch, self.groups, self.classes)
        even = torch.full_like(none, -math.log(self.classes))
        return Remembered(deter, Categorical(even, none))

    def remember(self, latent: Remembered, action: Tensor) -> Tensor:
        """[...], [..., A] -> h' [..., D]"""
        hidden = self.join(torch.cat([latent.stoch.features, action], -1))
        deter: Tensor = self.cell(hidden, latent.deter)
        return deter

    def imagine(self, context: Tensor, noise: Tensor | None) -> Remembered:
        """[..., D], [..., G] -> the prior [...]"""
        return self.believe(context, self.prior(context), noise)

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Remembered:
        """[..., D], logits [..., G K], [..., G] -> [...]"""
        logits = rearrange(statistics, "... (g k) -> ... g k", g=self.groups)
        return Remembered(context, categorical_of(logits, noise))
