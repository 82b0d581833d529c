"""The exact posterior: the image that was seen is the latent's picture, and nothing corrects it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.models.layers import Layers


@dataclass(frozen=True)
class ExactSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"scene"})
    offers: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[dict[str, Any]] = {"model.encoder.kind": "pixels", "env.vectors": False}

    kind: Literal["exact"] = "exact"

    def build(
        self,
        context_size: int,
        embed_size: int,
        action_size: int,
        statistics_size: int,
        layers: Layers,
    ) -> Exact:
        if embed_size != statistics_size:
            raise ValueError(
                "model.posterior: exact takes a picture and no vectors, and the environment gives"
                " vectors too; take a model with another posterior, or leave the vectors out"
            )
        return Exact()


class Exact(nn.Module):
    """A posterior without parameters: it hands the picture through."""

    def evidence(self, embeds: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
        """[..., E] -> [..., E]"""
        return embeds

    def correct(self, context: Any, evidence: Tensor) -> Tensor:
        """[..., E] -> [..., P], which is E"""
        return evidence

    @property
    def acting(self) -> Exact:
        return self
