"""Guesses of hidden patches without a model: what a masked autoencoder must be better than."""

from __future__ import annotations

import torch
from torch import Tensor


def from_neighbours(patches: Tensor, seen: Tensor, patch: int) -> Tensor:
    """Every pixel as a mean of the seen ones: [M, P, Q], [M, K] -> [M, P, Q]

    The weight of a seen pixel is one over the fourth power of its distance. ``patch`` is the side
    of a patch in pixels.
    """
    images, count, numbers = patches.shape
    channels = numbers // patch**2
    places = _places(round(count**0.5), patch)  # [P, p p, 2]
    drawn = torch.empty_like(patches).reshape(images, count, channels, -1)
    for image in range(images):
        known = places[seen[image]].flatten(0, 1)  # [K p p, 2]
        colours = patches[image, seen[image]].reshape(-1, channels, patch**2)
        colours = colours.movedim(1, -1).flatten(0, 1)  # [K p p, C]
        distance = torch.cdist(places.flatten(0, 1), known)
        weights = distance.clamp(min=1e-3) ** -4
        mixed = (weights / weights.sum(1, keepdim=True)) @ colours  # [P p p, C]
        drawn[image] = mixed.reshape(count, patch**2, channels).movedim(-1, 1)
    return drawn.reshape(patches.shape)


def _places(side: int, patch: int) -> Tensor:
    """[P, p p, 2] the row and column of every pixel of every patch"""
    corner = torch.cartesian_prod(torch.arange(side), torch.arange(side)) * patch
    inside = torch.cartesian_prod(torch.arange(patch), torch.arange(patch))
    return (corner[:, None] + inside).float()
