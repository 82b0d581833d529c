"""The objective: the terms that train the world model, and the one that prioritises replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
from worldmodel.losses.overshooting import Overshooting
from worldmodel.losses.predicted_image import PredictedImage
from worldmodel.losses.reward import Reward
from worldmodel.losses.unit_kl import UnitKL
from worldmodel.losses.vectors import Vectors

Priority = Literal[
    "kl_dynamics",
    "kl_representation",
    "reward",
    "discount",
    "image",
    "vectors",
    "consistency",
    "acting",
    "predicted_image",
    "unit_kl",
    "latent_kl",
    "masked_patches",
    "contrastive",
    "ensemble",
    "overshooting",
]


@dataclass(frozen=True)
class Objective:
    """The sum of its terms, in this order; None leaves a term out."""

    kl: KL | None = KL()
    """The loss that brings prior and posterior together. none: it is left out."""
    reward: Reward | None = Reward()
    """The loss of predicted rewards. none: it is left out."""
    discount: Discount | None = Discount()
    """The loss of the prediction that the task goes on. none: it is left out."""
    image: Image | None = Image()
    """The loss of drawn images. none: latents need not show what was seen."""
    vectors: Vectors | None = Vectors()
    """The loss of predicted vectors. none: vectors are read, and not predicted."""
    consistency: Consistency | None = None
    """The loss that brings predicted latents to encoded ones, for latents without a distribution.
    none: it is left out."""
    acting: Acting | None = None
    """The loss of the filter that acts for a smoother. none: it is left out."""
    predicted_image: PredictedImage | None = None
    """The loss of images that are drawn from the predicted latents. none: it is left out."""
    unit_kl: UnitKL | None = None
    """The loss that keeps latents near a unit Gaussian, as a VAE does. none: it is left out."""
    latent_kl: LatentKL | None = None
    """The loss that brings predicted latents to those of their images, for locally linear dynamics.
    none: it is left out."""
    masked_patches: MaskedPatches | None = None
    """The loss of patches that are hidden from a masked encoder. none: it is left out."""
    contrastive: Contrastive | None = None
    """The loss of recognising the next image among others, which needs no decoder. none: it is left
    out."""
    ensemble: Ensemble | None = None
    """The loss of the ensemble, which changes no other part. none: it is left out."""
    overshooting: Overshooting | None = None
    """The loss of priors of several steps. none: it is left out."""
    priority: Priority | None = "kl_dynamics"
    """The loss, by its name in metrics.jsonl, that is each row's priority in replay. none: no row
    is preferred."""

    def check(self, path: str) -> None:
        if self.priority is not None:
            term = "kl" if self.priority in ("kl_dynamics", "kl_representation") else self.priority
            require(
                getattr(self, term) is not None,
                f"{path}.priority: {self.priority} is a loss of {path}.{term}, which is none; write"
                f" {path}.priority: none",
            )
