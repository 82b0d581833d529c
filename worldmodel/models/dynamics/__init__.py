"""Latent dynamics: how the world goes on, one file a kind.

``DynamicsSettings`` is the only list of kinds. Settings name the kind of their ``latent``, which a
posterior must fit, and what they ``offer`` to terms that need it.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from torch import Tensor

from worldmodel.models.dynamics.recurrent import Recurrent, RecurrentSettings

__all__ = ["Context", "Dynamics", "DynamicsSettings", "Linearisable", "Recurrent"]

DynamicsSettings = RecurrentSettings

Z = TypeVar("Z")
Context = Any
"""All that the past says of a row: a tensor [..., C], or a record of a kind's own."""


class Dynamics(Protocol[Z]):
    """Three verbs: remember what was, imagine what comes, believe what an image says.

    Noise is handed in, never found: standard normal [..., noise_size], or None for the mean.
    """

    @property
    def feature_size(self) -> int: ...

    @property
    def context_size(self) -> int:
        """C, of what a posterior reads."""

    @property
    def noise_size(self) -> int: ...

    @property
    def statistics_size(self) -> int:
        """P, the numbers that a posterior gives to ``believe``."""

    def initial(self, *batch: int) -> Z: ...

    def remember(self, latent: Z, action: Tensor) -> Context:
        """[...], [..., A] -> all that the past says of the next row"""

    def imagine(self, context: Context, noise: Tensor | None) -> Z:
        """The prior of that row: no image."""

    def believe(self, context: Context, statistics: Tensor, noise: Tensor | None) -> Z:
        """The posterior of that row, from a posterior's numbers [..., P]."""


class Linearisable(Protocol):
    """Dynamics that a planner with derivatives (iLQR) can follow: one flat state, no noise."""

    def state(self, latent: Any) -> Tensor:
        """[...] -> [..., X]"""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """[X], [A] -> [X], differentiable and never random"""

    def features_of(self, state: Tensor) -> Tensor:
        """[X] -> [F] what heads and goals read of a state"""
