"""The deterministic posterior z_t = g(o_t): an encoder of the newest image, without a distribution.

The network is that of the one-step posterior; its numbers are the latent itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from worldmodel.checks import at_least
from worldmodel.models.layers import Layers
from worldmodel.models.posteriors.one_step import OneStep


@dataclass(frozen=True)
class DeterministicSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"point"})
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["deterministic"] = "deterministic"
    hidden_size: Annotated[int, at_least(1)] = 256
    """Width of the layer that reads the image's embedding. Larger: slower, and more can be
    learned."""

    def build(
        self,
        context_size: int,
        embed_size: int,
        action_size: int,
        statistics_size: int,
        layers: Layers,
    ) -> OneStep:
        return OneStep(embed_size, self.hidden_size, statistics_size, layers)
