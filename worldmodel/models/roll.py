"""Loops over time: ``roll`` imagines without images, ``follow_images`` observes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from worldmodel.models.dynamics import Context, Dynamics
from worldmodel.models.posteriors import Posterior
from worldmodel.structs import Latent, stack

Act = Callable[[Any, int], Tensor]
"""A latent [...] and the number of the row -> the action [..., A] that is done there."""


def given(actions: Tensor) -> Act:
    """A fixed sequence [..., L, A]."""
    rows = actions.unbind(-2)
    return lambda latent, row: rows[row]


def imagined_rows(
    dynamics: Dynamics[Any], latent: Latent, act: Act, length: int, noise: Tensor | None
) -> Iterator[tuple[Tensor, Latent]]:
    """Imagine row by row: each row's action [..., A] and the latent [...] that it leads to.

    ``noise``: standard normal [..., L, S]; None follows the mean.
    """
    for row in range(length):
        action = act(latent, row)
        context = dynamics.remember(latent, action)
        latent = dynamics.imagine(context, None if noise is None else noise[..., row, :])
        yield action, latent


def roll(
    dynamics: Dynamics[Any], latent: Latent, act: Act, length: int, noise: Tensor | None
) -> tuple[Tensor, Latent]:
    """Imagine from latents [...]: actions [..., L, A] and the latents [..., L] they lead to."""
    dim = len(latent.shape)
    actions, latents = zip(*imagined_rows(dynamics, latent, act, length, noise), strict=True)
    return stack(actions, dim), stack(latents, dim)


def follow_images(
    dynamics: Dynamics[Any],
    posterior: Posterior,
    latent: Latent,
    actions: Tensor,
    evidence: Tensor,
    noise: Tensor | None,
) -> tuple[Context, Latent]:
    """Filter windows: actions [B, T, A], evidence [B, T, V], noise [B, T, S] or None.

    Returns each row's context [B, T], which is what the past says of it, and the posterior [B, T].
    """
    contexts, latents = [], []
    pairs = zip(actions.unbind(1), evidence.unbind(1), strict=True)
    for row, (action, row_evidence) in enumerate(pairs):
        context = dynamics.remember(latent, action)
        statistics = posterior.correct(context, row_evidence)
        latent = dynamics.believe(context, statistics, None if noise is None else noise[:, row])
        contexts.append(context)
        latents.append(latent)
    return stack(contexts, 1), stack(latents, 1)
