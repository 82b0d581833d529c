"""Posteriors: what an image adds to what the past says, one file a kind.

``PosteriorSettings`` is the only list of kinds. Settings say which kinds of latent they ``fit``.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from worldmodel.models.posteriors.filter import Filter, FilterSettings

__all__ = ["Filter", "FilterSettings", "Posterior", "PosteriorSettings"]

PosteriorSettings = FilterSettings


class Posterior(Protocol):
    """Corrects what the past says of a row by that row's image."""

    def evidence(self, embeds: Tensor, actions: Tensor) -> Tensor:
        """What images say by themselves, for all times at once.

        [B, T, E], [B, T, A] -> [B, T, V]
        """

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[..., C], [..., V] -> the numbers of a distribution [..., P]"""

    @property
    def acting(self) -> Posterior:
        """The posterior that acts: itself, unless it also looks at images to come."""
