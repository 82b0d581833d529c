"""Posteriors: networks that correct the prior by an image, one file a kind.

``PosteriorSettings`` is the only list of kinds. The settings of each kind say in ``fits`` which
kinds of latent it can be used with, and what it ``offers`` to terms that need it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from worldmodel.models.posteriors.deterministic import DeterministicSettings
from worldmodel.models.posteriors.exact import ExactSettings
from worldmodel.models.posteriors.filter import Filter, FilterSettings
from worldmodel.models.posteriors.one_step import OneStepSettings
from worldmodel.models.posteriors.smoother import SmootherSettings

__all__ = ["Filter", "FilterSettings", "Posterior", "PosteriorSettings"]

PosteriorSettings = (
    FilterSettings | OneStepSettings | DeterministicSettings | SmootherSettings | ExactSettings
)


class Posterior(Protocol):
    """A posterior corrects the context of a row, which comes from the past, by that row's image."""

    def evidence(self, embeds: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
        """The part of the computation that needs no past, for all times at once.

        [B, T, E], [B, T, A], [B, T] bool, False in rows of padding -> [B, T, V]
        """

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[..., C], [..., V] -> the statistics of the posterior distribution [..., P]"""

    @property
    def acting(self) -> Posterior | None:
        """The posterior to act with: itself, unless it also reads images of later rows.

        None: the model can learn, and not act.
        """
