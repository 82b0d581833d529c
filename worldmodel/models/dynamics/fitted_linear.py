"""Fitted linear dynamics: SOLAR's prior, one linear-Gaussian step, fitted in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than
from worldmodel.linear import Fit, moments_of
from worldmodel.models.latents import Correlated, Gaussian, Timed, gaussian_of
from worldmodel.models.layers import Layers

# Rows that the fit counts as, against the prior's one. Not studied: only what rows leave open
# should be the prior's.
ROWS = 1000.0
RATE = 0.01  # how fast the moments follow the latents, which move while the encoder learns


@dataclass(frozen=True)
class FittedLinearSettings:
    latent: ClassVar[str] = "timed"
    offers: ClassVar[frozenset[str]] = frozenset({"distribution", "flat_state", "fitted"})

    kind: Literal["fitted_linear"] = "fitted_linear"
    state_size: Annotated[int, at_least(1)] = 4
    """Numbers of a latent. Larger: it holds more of what images show, and more rollouts are needed
    to fit a step of each time."""
    min_std: Annotated[float, more_than(0)] = 0.01
    """Smallest standard deviation of a latent that an image gave. Larger: the model is never sure
    of small details."""

    def build(self, action_size: int, layers: Layers, image: tuple[int, int, int]) -> FittedLinear:
        return FittedLinear(self, action_size)


class FittedLinear(nn.Module):
    """The same linear-Gaussian step everywhere; it is the mean of a ``Fit``::

        z' ~ N(A z + B u + o, Sigma)

    No gradient changes A, B, o and Sigma. ``absorb`` fits them to the latents of each batch: the
    moments of the rows are a moving average, because latents move while the encoder learns. They
    are buffers, so a checkpoint has them.
    """

    matrix: Tensor
    offset: Tensor
    factor: Tensor
    moments: Tensor
    batches: Tensor

    def __init__(self, settings: FittedLinearSettings, action_size: int) -> None:
        super().__init__()
        size = self.state_size = settings.state_size
        self.action_size, self.min_std = action_size, settings.min_std
        both = 2 * size + action_size + 1
        self.register_buffer("matrix", torch.eye(size, size + action_size))  # [S, S + A]
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("factor", torch.eye(size))  # of Sigma = factor factor'
        self.register_buffer("moments", torch.zeros(both, both))  # of a row: [X + S, X + S]
        self.register_buffer("batches", torch.zeros(()))

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

    def initial(self, *batch: int) -> Timed:
        """N(0, I), before the first row."""
        mean = self.offset.new_zeros(*batch, self.state_size)
        eye = torch.eye(self.state_size).to(mean).expand(*mean.shape, -1)
        row = torch.full(batch, -1, device=mean.device)
        return Timed(row, Correlated(mean, eye, mean))

    def remember(self, latent: Timed, action: Tensor) -> Timed:
        """[...], [..., A] -> the prior of the next row [...]"""
        mean = self.step(latent.features, action)
        factor = self.factor.expand(*mean.shape, -1)
        return Timed(latent.row + 1, Correlated(mean, factor, mean))

    def imagine(self, context: Timed, noise: Tensor | None) -> Timed:
        """The prior [...]; with noise [..., S] its sample is drawn around its mean."""
        prior = context.state
        if noise is None or isinstance(prior, Gaussian):
            return context
        drawn = prior.mean + (prior.factor @ noise[..., None])[..., 0]
        return Timed(context.row, Correlated(prior.mean, prior.factor, drawn))

    def believe(self, context: Timed, statistics: Tensor, noise: Tensor | None) -> Timed:
        """[...], mean and raw std [..., 2 S], [..., S] -> [...]"""
        return Timed(context.row, gaussian_of(statistics, self.min_std, noise))

    def state(self, latent: Timed) -> Tensor:
        """The flat state of iLQR: [...] -> [..., S]"""
        return latent.features

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """[..., S], [..., A] -> [..., S]"""
        return torch.cat([state, action], -1) @ self.matrix.mT + self.offset

    def features_of(self, state: Tensor) -> Tensor:
        return state

    @torch.no_grad()
    def absorb(self, latents: Tensor, actions: Tensor, follows: Tensor) -> None:
        """Fit the step to windows [B, T, S], [B, T, A]; ``follows`` [B, T]: not a first row."""
        later = follows[:, 1:]
        rows = latents[:, :-1][later], actions[:, 1:][later], latents[:, 1:][later]
        if not len(rows[0]):
            return
        self.batches += 1
        rate = max(RATE, 1 / float(self.batches))
        self.moments.lerp_((moments_of(*rows) / len(rows[0])).to(self.moments), rate)
        step = self.fit().step
        self.matrix.copy_(step.matrix)
        self.offset.copy_(step.offset)
        self.factor.copy_(torch.linalg.cholesky(step.covariance))

    def fit(self) -> Fit:
        """All that the rows say of the step."""
        prior = Fit.prior(self.state_size, self.action_size)
        return prior.after(self.moments.double().cpu() * ROWS, ROWS)
