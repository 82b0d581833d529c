"""The recurrent state-space model: latents of a deterministic, recurrent and a random part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than
from worldmodel.models.latents import Gaussian, Remembered, gaussian_of
from worldmodel.models.layers import CELLS, Layers, layer_of


@dataclass(frozen=True)
class RecurrentSettings:
    latent: ClassVar[str] = "remembered"
    offers: ClassVar[frozenset[str]] = frozenset({"distribution", "gaussian", "flat_state"})

    kind: Literal["recurrent"] = "recurrent"
    deter_size: Annotated[int, at_least(1)] = 256
    """Numbers of a latent that remember the past without chance. Larger: a longer memory, and
    slower imagining."""
    stoch_size: Annotated[int, at_least(1)] = 32
    """Numbers of a latent that are drawn at random: what the past does not decide."""
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layers inside the dynamics. Larger: slower, and more can be learned."""
    min_std: Annotated[float, more_than(0)] = 0.1
    """Smallest standard deviation of a latent's random part. Larger: the model is never sure of
    small details."""

    def build(self, action_size: int, layers: Layers, image: tuple[int, int, int]) -> Recurrent:
        return Recurrent(self, action_size, layers)


class Recurrent(nn.Module):
    """Latent dynamics with a deterministic and a Gaussian part (PlaNet)::

        prior, no image            posterior, with an image

        (action)                   (action)
             \\                          \\
        [h] -> [h']                [h] -> [h']
        (s) /    |                 (s) /    |  \\
                (s')                       (s') <- (image)

        h' = cell(f(s, action), h)      prior s' ~ N(h')      posterior s' ~ N(h', embed)

    ``remember`` makes h', ``imagine`` the prior and ``believe`` the posterior.
    """

    def __init__(self, settings: RecurrentSettings, action_size: int, layers: Layers) -> None:
        super().__init__()
        layer = layer_of(layers)
        self.deter_size, self.stoch_size = settings.deter_size, settings.stoch_size
        self.min_std = settings.min_std
        hidden_size = settings.hidden_size
        cell = CELLS[layers](hidden_size, self.deter_size)
        self.join = layer(self.stoch_size + action_size, hidden_size)
        self.cell = cell
        self.prior = nn.Sequential(
            layer(self.deter_size, hidden_size), nn.Linear(hidden_size, self.statistics_size)
        )

    @property
    def feature_size(self) -> int:
        return self.deter_size + self.stoch_size

    @property
    def context_size(self) -> int:
        return self.deter_size

    @property
    def noise_size(self) -> int:
        return self.stoch_size

    @property
    def statistics_size(self) -> int:
        return 2 * self.stoch_size

    def initial(self, *batch: int) -> Remembered:
        parameter = next(self.parameters())
        deter = parameter.new_zeros(*batch, self.deter_size)
        mean = parameter.new_zeros(*batch, self.stoch_size)
        return Remembered(deter, Gaussian(mean, torch.ones_like(mean), mean))

    def remember(self, latent: Remembered, action: Tensor) -> Tensor:
        """[...], [..., A] -> h' [..., D]"""
        hidden = self.join(torch.cat([latent.stoch.features, action], -1))
        deter: Tensor = self.cell(hidden, latent.deter)
        return deter

    def imagine(self, context: Tensor, noise: Tensor | None) -> Remembered:
        """[..., D], [..., S] -> the prior [...]"""
        return self.believe(context, self.prior(context), noise)

    def believe(self, context: Tensor, statistics: Tensor, noise: Tensor | None) -> Remembered:
        """[..., D], mean and raw std [..., 2 S], [..., S] -> [...]"""
        return Remembered(context, gaussian_of(statistics, self.min_std, noise))

    def state(self, latent: Remembered) -> Tensor:
        """The flat state of iLQR, which is the features: [...] -> [..., D + S]"""
        return latent.features

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The next state, by the prior's mean: [D + S], [A] -> [D + S]"""
        deter, mean = state.tensor_split([self.deter_size], -1)
        latent = Remembered(deter, Gaussian(mean, torch.ones_like(mean), mean))
        return self.imagine(self.remember(latent, action), None).features

    def features_of(self, state: Tensor) -> Tensor:
        return state
