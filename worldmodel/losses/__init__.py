"""Losses: the terms of the world model's objective, one file a term.

A term is its own settings: a frozen dataclass that is called. ``Objective`` names the terms that
are summed; ``terms_of`` computes them for a batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from worldmodel.checks import require
from worldmodel.losses.acting import Acting
from worldmodel.losses.consistency import Consistency
from worldmodel.losses.contrastive import Contrastive
from worldmodel.losses.discount import Discount
from worldmodel.losses.ensemble import Ensemble
from worldmodel.losses.image import Image
from worldmodel.losses.kl import KL
from worldmodel.losses.latent_kl import LatentKL
from worldmodel.losses.masked_patches import MaskedPatches
from worldmodel.losses.objective import Objective
from worldmodel.losses.overshooting import Overshooting
from worldmodel.losses.predicted_image import PredictedImage
from worldmodel.losses.reward import Reward
from worldmodel.losses.unit_kl import UnitKL
from worldmodel.losses.vectors import Vectors
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference

__all__ = [
    "KL",
    "Acting",
    "Consistency",
    "Contrastive",
    "Discount",
    "Ensemble",
    "Image",
    "LatentKL",
    "MaskedPatches",
    "Objective",
    "Overshooting",
    "PredictedImage",
    "Reward",
    "Term",
    "UnitKL",
    "Vectors",
    "at_update",
    "mean_over_valid",
    "terms_in",
    "terms_of",
]


@runtime_checkable
class Term(Protocol):
    """One term of the objective: a frozen dataclass of its weights, which is called on a batch."""

    needs: ClassVar[frozenset[str]]
    """What the model must have: ``decoder``, ``distribution``, ``head:reward``, ..."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Weighted losses [B, T] by name; {} if the model or the batch has nothing for this term.

        Lower is better.
        """


def terms_in(objective: Any) -> dict[str, Term]:
    """The terms of an objective that are not None, in the order of its fields.

    An objective of your own is any frozen dataclass whose fields are terms, and ``priority``.
    """
    parts = {f.name: getattr(objective, f.name) for f in dataclasses.fields(objective)}
    for name, part in parts.items():
        lacking = [verb for verb in ("needs", "__call__") if not hasattr(part, verb)]
        require(
            not (lacking and dataclasses.is_dataclass(part)),
            f"objective.{name}: {type(part).__name__} is no term: it has no"
            f" {' and no '.join(lacking)}",
        )
    return {name: part for name, part in parts.items() if isinstance(part, Term)}


def at_update(objective: Any, updates: int) -> Any:
    """The objective after so many updates: terms whose weights change say how, by ``at``."""
    changing = {n: t for n, t in terms_in(objective).items() if hasattr(t, "at")}
    if not changing:
        return objective
    present = {name: term.at(updates) for name, term in changing.items()}
    return dataclasses.replace(objective, **present)


def terms_of(
    objective: Any, model: WorldModel, seen: Inference, random: torch.Generator
) -> dict[str, Tensor]:
    """Every term of a batch: [B, T]. Random numbers are drawn in the order of the fields."""
    terms: dict[str, Tensor] = {}
    for name, term in terms_in(objective).items():
        for part, value in term(model, seen, random).items():
            assert value.shape == seen.batch.valid.shape, f"objective.{name}: {part} is not [B, T]"
            terms[part] = value
    return terms


def mean_over_valid(term: Tensor, valid: Tensor) -> Tensor:
    """The mean over valid rows: [B, T] -> []; padding does not count."""
    return (term * valid).sum() / valid.sum()
