"""Latent dynamics: prediction of the next latent, one file a kind.

``DynamicsSettings`` is the only list of kinds. The settings of each kind name its kind of
``latent``, which the posterior must fit, and what it ``offers`` to terms that need it.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from worldmodel.models.dynamics.deterministic import DeterministicDynamics, DeterministicSettings
from worldmodel.models.dynamics.fitted_linear import FittedLinear, FittedLinearSettings
from worldmodel.models.dynamics.gaussian import GaussianDynamics, GaussianSettings
from worldmodel.models.dynamics.locally_linear import LocallyLinear, LocallyLinearSettings
from worldmodel.models.dynamics.moving_kernels import MovingKernels, MovingKernelsSettings
from worldmodel.models.dynamics.none import NoDynamics, NoDynamicsSettings
from worldmodel.models.dynamics.recurrent import Recurrent, RecurrentSettings
from worldmodel.models.dynamics.recurrent_categorical import (
    RecurrentCategorical,
    RecurrentCategoricalSettings,
)

__all__ = [
    "Context",
    "DeterministicDynamics",
    "Dynamics",
    "DynamicsSettings",
    "Fitted",
    "FittedLinear",
    "GaussianDynamics",
    "Linearisable",
    "LocallyLinear",
    "MovingKernels",
    "NoDynamics",
    "Recurrent",
    "RecurrentCategorical",
]

DynamicsSettings = (
    RecurrentSettings
    | RecurrentCategoricalSettings
    | GaussianSettings
    | DeterministicSettings
    | LocallyLinearSettings
    | FittedLinearSettings
    | NoDynamicsSettings
    | MovingKernelsSettings
)

Z = TypeVar("Z")
Context = Any
"""All that the past says of a row: a tensor [..., C], or a record that a kind defines."""


class Dynamics(Protocol[Z]):
    """Dynamics: ``remember`` gives the context, ``imagine`` the prior, ``believe`` the posterior.

    Noise is always an argument: standard normal [..., noise_size], or None for the mean; for
    classes, which have no mean, None is for the most likely one.
    """

    @property
    def feature_size(self) -> int: ...

    @property
    def context_size(self) -> int:
        """C, the size of the context that a posterior reads."""

    @property
    def noise_size(self) -> int: ...

    @property
    def statistics_size(self) -> int:
        """P, how many numbers a posterior gives to ``believe``."""

    def initial(self, *batch: int) -> Z: ...

    def remember(self, latent: Z, action: Tensor) -> Context:
        """Latent [...], action [..., A] -> the context of the next row"""

    def imagine(self, context: Context, noise: Tensor | None) -> Z:
        """The prior of that row, without its image."""

    def believe(self, context: Context, statistics: Tensor, noise: Tensor | None) -> Z:
        """The posterior of that row, from the statistics [..., P] that the posterior computed."""


class Linearisable(Protocol):
    """Dynamics that a planner with derivatives (iLQR) can use: one flat state, no noise.

    Their settings offer ``flat_state``.
    """

    def state(self, latent: Any) -> Tensor:
        """[...] -> [..., X]"""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """[X], [A] -> [X], differentiable and deterministic"""

    def features_of(self, state: Tensor) -> Tensor:
        """[X] -> [F], the features that heads and goals read"""


@runtime_checkable
class Fitted(Protocol):
    """Dynamics whose numbers are computed from rows, and not learned by gradients."""

    def absorb(self, latents: Tensor, actions: Tensor, follows: Tensor) -> None:
        """Fit to windows [B, T, S], [B, T, A]; ``follows`` [B, T]: which rows have one before."""
