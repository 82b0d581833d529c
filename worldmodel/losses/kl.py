"""The KL divergence of the posterior from the prior, with a weight for each direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.structs import at, each, stack


@dataclass(frozen=True)
class KL:
    """Move the prior towards the posterior, and more weakly the posterior towards the prior.

    A KL below ``free_nats`` has no gradient.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"distribution", "dynamics"})

    # The image's error is scaled up (models/pixels.py), so the other terms are weighted up too:
    # with 1 for both this and the reward, 800 updates left twice the reward's error, and the
    # prediction 5 steps ahead was a tenth worse (assets/trials/model_trials.csv: one seed).
    dynamics: Annotated[float, at_least(0)] = 5.0
    """Weight of the loss that moves the prior towards the posterior. Larger: the model learns more
    to foresee, less to see."""
    representation: Annotated[float, at_least(0)] = 0.3
    """Weight of the loss that moves the posterior towards the prior. Larger: latents hold only what
    can be foreseen."""
    free_nats: Annotated[float, at_least(0)] = 1.0
    """A KL below this, in nats, has no gradient. Larger: more of what an image shows may stay
    unforeseen."""
    # Without memory in the latent, what stands before a window is not known at all; a prior that
    # were predicted for its first row would be a learned mean of all rows.
    first_row: Literal["predicted", "initial"] = "predicted"
    """The prior of a window's first row: predicted from the initial latent as those of all other
    rows, or that initial latent itself, which is N(0, I)."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        posterior, prior = seen.posterior.distribution, seen.prior.distribution
        assert posterior is not None
        assert prior is not None
        if self.first_row == "initial":
            first = model.dynamics.initial(seen.posterior.shape[0]).distribution
            later = [at(prior, (slice(None), row)) for row in range(1, seen.prior.shape[1])]
            prior = stack([first, *later], 1)
        dynamics = each(posterior, Tensor.detach).divergence(prior)
        representation = posterior.divergence(each(prior, Tensor.detach))
        return {
            "kl_dynamics": self.dynamics * dynamics.clamp(min=self.free_nats),
            "kl_representation": self.representation * representation.clamp(min=self.free_nats),
        }
