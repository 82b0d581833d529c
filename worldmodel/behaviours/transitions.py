"""Transitions: pairs of successive rows, for behaviours that learn from what was done."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from worldmodel.models import WorldModel
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class Transitions:
    """What was believed, what was done there, and what came: M pairs of rows t and t + 1.

    An action, a reward and a discount belong to the row that they led to, so they are those of row
    t + 1. A discount of 0 says that the task ended there; at a time limit it stays 1, because the
    task would have gone on.
    """

    before: Tensor  # [M, F]
    action: Tensor  # [M, A]
    reward: Tensor  # [M]
    discount: Tensor  # [M]
    after: Tensor  # [M, F]


def transitions(features: Tensor, seen: Inference) -> Transitions:
    """All pairs of valid rows of a batch; ``features`` [B, T, F] are those of its rows."""
    batch, later = seen.batch, seen.follows[:, 1:]  # [B, T - 1]
    return Transitions(
        before=features[:, :-1][later],
        action=batch.action[:, 1:][later],
        reward=batch.reward[:, 1:][later],
        discount=batch.discount[:, 1:][later],
        after=features[:, 1:][later],
    )


def believed(model: WorldModel, seen: Inference, tunes: bool) -> Tensor:
    """The features [B, T, F] of the beliefs that an agent would have had: means, nothing drawn.

    Gradients reach the encoder only if a behaviour ``tunes`` it.
    """
    batch = seen.batch
    features = model.beliefs(batch.action, seen.embeds, batch.valid).features
    return features if tunes else features.detach()


def encoder_of(model: WorldModel) -> list[nn.Parameter]:
    """The parameters between an image and its belief, without the dynamics."""
    read = ("encoder.", "posterior.")
    return [part for name, part in model.named_parameters() if name.startswith(read)]
