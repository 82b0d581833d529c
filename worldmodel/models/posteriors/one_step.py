"""The one-step posterior q(s_t | o_t): what the newest image says by itself, without a past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from worldmodel.checks import at_least
from worldmodel.models.layers import Layers, layer_of


@dataclass(frozen=True)
class OneStepSettings:
    fits: ClassVar[frozenset[str]] = frozenset({"gaussian", "remembered", "affine", "timed"})
    offers: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["one_step"] = "one_step"
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


class OneStep(nn.Module):
    """A small network of the embedding alone; all of it is ``evidence``, and no past corrects it.

    What no single image shows, such as a velocity, it cannot know. Under recurrent dynamics the
    context is in the latent all the same, and only the random part is read from the image.
    """

    def __init__(
        self, embed_size: int, hidden_size: int, statistics_size: int, layers: Layers
    ) -> None:
        super().__init__()
        layer = layer_of(layers)
        self.net = nn.Sequential(
            layer(embed_size, hidden_size), nn.Linear(hidden_size, statistics_size)
        )

    def evidence(self, embeds: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
        """[..., E] -> [..., P]"""
        statistics: Tensor = self.net(embeds)
        return statistics

    def correct(self, context: Tensor, evidence: Tensor) -> Tensor:
        """[..., P] -> [..., P]"""
        return evidence

    @property
    def acting(self) -> OneStep:
        return self
