"""The filter that acts for a smoother: it learns to believe what the smoother believes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.structs import each


@dataclass(frozen=True)
class Acting:
    """KL(smoother || filter), along the filter's own beliefs, which never read a later row.

    Over all futures that can follow the same past, the filter with the least KL is the mean of the
    smoother's beliefs, which is the exact filter. A bound on the likelihood of its own would need a
    second drawing of every image, and dynamics that serve two kinds of latents at once. Smoother
    and encoder get no gradient from this term: they do not wait for what cannot be known yet.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"distribution", "acting_filter"})

    weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the KL of the acting filter's belief from the smoother's. Larger: the filter, and
    the dynamics under it, learn more from this."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        batch = seen.batch
        target = seen.posterior.distribution
        acting = model.beliefs(batch.action, seen.embeds.detach(), batch.valid).distribution
        assert target is not None
        return {"acting": self.weight * each(target, Tensor.detach).divergence(acting)}
