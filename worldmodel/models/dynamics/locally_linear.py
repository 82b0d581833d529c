"""Locally linear dynamics: Embed to Control's, linear around each latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than
from worldmodel.models.latents import Affine, Gaussian, after_step, gaussian_of
from worldmodel.models.layers import Layers, layer_of, mlp


@dataclass(frozen=True)
class LocallyLinearSettings:
    latent: ClassVar[str] = "affine"
    offers: ClassVar[frozenset[str]] = frozenset(
        {"distribution", "gaussian", "affine", "flat_state"}
    )

    kind: Literal["locally_linear"] = "locally_linear"
    state_size: Annotated[int, at_least(1)] = 8
    """Numbers of a latent. Larger: it holds more of what images show, and plans take longer."""
    hidden_size: Annotated[int, at_least(1)] = 100
    """Width of the two layers that read a latent to give the linear step there. Larger: slower,
    and the step may change faster from place to place."""
    min_std: Annotated[float, more_than(0)] = 0.01
    """Smallest standard deviation of a latent that an image gave. Larger: the model is never sure
    of small details."""

    def build(self, action_size: int, layers: Layers, image: tuple[int, int, int]) -> LocallyLinear:
        return LocallyLinear(self, action_size, layers)


class LocallyLinear(nn.Module):
    """A linear step whose matrices are the outputs of a network of the latent z::

        z' = A z + B u + o,   A = I + v r'

    The context of a row is the prior itself. Its mean is A mu + B u + o, where mu is the mean of
    the latent before. Its sample is the step from the sample before, without new noise.
    """

    def __init__(self, settings: LocallyLinearSettings, action_size: int, layers: Layers) -> None:
        super().__init__()
        size = self.state_size = settings.state_size
        self.action_size, self.min_std = action_size, settings.min_std
        self.net = nn.Sequential(
            mlp(size, settings.hidden_size, 2, layer_of(layers)),
            nn.Linear(settings.hidden_size, (3 + action_size) * size),
        )

    @property
    def feature_size(self) -> int:
        return self.state_size

    @property
    def context_size(self) -> int:
        return self.state_size

    @property
    def noise_size(self) -> int:
        return self.state_size

    @property
    def statistics_size(self) -> int:
        return 2 * self.state_size

    def initial(self, *batch: int) -> Gaussian:
        mean = next(self.parameters()).new_zeros(*batch, self.state_size)
        return Gaussian(mean, torch.ones_like(mean), mean)

    def remember(self, latent: Gaussian | Affine, action: Tensor) -> Affine:
        """[...], [..., A] -> the prior of the next row [...]"""
        v, r, push = self.linear(latent.sample, action)
        return Affine(
            mean=after_step(latent.mean, v, r) + push,
            before=latent.std,
            sample=after_step(latent.sample, v, r) + push,
            v=v,
            r=r,
        )

    def linear(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step at z: v, r and B u + o, from [..., S], [..., A]"""
        size = self.state_size
        v, r, offset, matrix = self.net(z).split([size, size, size, size * self.action_size], -1)
        matrix = matrix.unflatten(-1, (size, self.action_size))  # [..., S, A]
        return v, r, (matrix * action.unsqueeze(-2)).sum(-1) + offset

    def imagine(self, context: Affine, noise: Tensor | None) -> Affine:
        """The prior [...]; with noise [..., S] its sample is drawn around its mean."""
        if noise is None:
            return context
        drawn = context.mean + after_step(context.before * noise, context.v, context.r)
        return Affine(context.mean, context.before, drawn, context.v, context.r)

    def believe(self, context: Affine, statistics: Tensor, noise: Tensor | None) -> Gaussian:
        """[...], mean and raw std [..., 2 S], [..., S] -> [...]"""
        return gaussian_of(statistics, self.min_std, noise)

    def state(self, latent: Gaussian | Affine) -> Tensor:
        """The flat state of iLQR, which is the sample: [...] -> [..., S]"""
        return latent.sample

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """[S], [A] -> [S]"""
        v, r, push = self.linear(state, action)
        return after_step(state, v, r) + push

    def features_of(self, state: Tensor) -> Tensor:
        return state
