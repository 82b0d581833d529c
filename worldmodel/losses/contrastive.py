"""InfoNCE: the prior of a row must recognise the image of its row among all images of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Contrastive:
    """The cross-entropy of choosing the right image, by the products of unit vectors::

        -log( exp(q_i . k_i / temperature) / sum_j exp(q_i . k_j / temperature) )

    The query q_i comes from the prior of row i, which knows the row before and the action; the key
    k_i from the image of row i. So latents hold what can be foreseen of images, and no decoder asks
    for the rest. A row without one before it in its window has no loss, and its image is a negative
    of the others. Copies of an image, such as a row that two windows share, are no negatives of it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"contrast", "dynamics"})

    # As the reward's and for the reason of kl.dynamics; not studied.
    weight: Annotated[float, at_least(0)] = 10.0
    """Weight of the loss of recognising images. Larger: latents hold more of what can be foreseen
    of images."""
    temperature: Annotated[float, more_than(0)] = 0.1
    """Divides the similarities. Smaller: only the images that are most alike count as wrong."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        assert model.contrast is not None
        queries = model.contrast.queries(seen.prior.features).flatten(0, 1)  # [M, P]
        keys = model.contrast.keys(seen.pixels).flatten(0, 1)  # [M, P]
        which = numbered(seen.batch.image.flatten(0, 1))
        negative = (which[:, None] != which[None, :]) & seen.batch.valid.flatten()
        loss = info_nce(queries, keys, negative, self.temperature)
        return {"contrastive": self.weight * loss.reshape(seen.follows.shape) * seen.follows}


def info_nce(queries: Tensor, keys: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """[M, P], [M, P], which keys are negatives of which query [M, M] bool -> [M]"""
    similar = queries @ keys.T / temperature  # [M, M]
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    among = similar.masked_fill(~(negative | own), -torch.inf)
    return among.logsumexp(-1) - similar.diagonal()


def numbered(images: Tensor) -> Tensor:
    """Equal images get the same number: [M, H, W, C] -> [M]"""
    numbers: Tensor = torch.unique(images.flatten(1), dim=0, return_inverse=True)[1]
    return numbers
