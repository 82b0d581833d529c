"""Latent overshooting: priors of several steps without images meet the posterior of their row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.structs import at, each


@dataclass(frozen=True)
class Overshooting:
    """PlaNet's overshooting, of all distances but the first, which ``KL`` is::

        1/D  sum over d = 2 .. D  of  KL( posterior of row t || prior of row t from row t - d )

    A prior of distance d follows d actions from the posterior of row t - d, without an image. As
    published, the posterior that it should meet has no gradient here: priors of many steps learn to
    be right, and no posterior learns to be easy to foresee. A row with less than d rows before it
    in its window has no loss of distance d: PlaNet's code also begins at the empty state before it.

    An update imagines D - 1 more rows for every row of the batch. The drawn noise of a row is
    another for each distance.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"distribution", "dynamics"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the divergences of priors of several steps. Larger: the model learns more to
    foresee many rows, and less to foresee the next."""
    distance: Annotated[int, at_least(2)] = 5
    """Most steps that a prior goes without images (PlaNet's D). Larger: longer predictions are
    learned, and an update takes longer."""
    free_nats: Annotated[float, at_least(0)] = 0.0
    """A divergence below this, in nats, has no gradient. Larger: small errors of predictions of
    many steps stay."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        dynamics, action, valid = model.dynamics, seen.batch.action, seen.batch.valid
        target = seen.posterior.distribution
        assert target is not None
        target = each(target, Tensor.detach)
        length = valid.shape[1]
        total = torch.zeros(valid.shape, device=valid.device)
        latent = seen.posterior  # of rows 0 .. T - 1; after d steps, of rows d .. T - 1
        for distance in range(1, min(self.distance, length - 1) + 1):
            before = at(latent, (slice(None), slice(0, length - distance)))
            context = dynamics.remember(before, action[:, distance:])
            shape = (*before.shape, dynamics.noise_size)
            noise = torch.randn(shape, generator=random, device=action.device)
            latent = dynamics.imagine(context, noise)  # [B, T - d]
            if distance > 1:
                aim = at(target, (slice(None), slice(distance, None)))
                apart = aim.divergence(latent.distribution).clamp(min=self.free_nats)
                total = total + pad(apart, (distance, 0)) * valid
        return {"overshooting": self.weight * total / self.distance}
