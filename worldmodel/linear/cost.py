"""A quadratic cost, fitted from the costs that were observed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Weight of the numbers of a fit itself, for each row: latents that never vary get no weight.
RIDGE = 1e-6


@dataclass(frozen=True)
class QuadraticCost:
    """The cost of a row: 1/2 z' C z + c' z + c0, where z = (s, a) is one row of an episode.

    As everywhere, ``a`` is the action that led to ``s``, and the cost came with both.
    """

    curvature: Tensor  # [Z, Z] C, without negative eigenvalues; Z = S + A
    slope: Tensor  # [Z] c
    constant: Tensor  # [] c0

    def __call__(self, joint: Tensor) -> Tensor:
        """[..., Z] -> [...]"""
        curved = 0.5 * ((joint @ self.curvature) * joint).sum(-1)
        return curved + joint @ self.slope + self.constant


def fit_cost(state: Tensor, action: Tensor, cost: Tensor) -> QuadraticCost:
    """Fit by least squares, then make it convex: [N, S], [N, A], [N].

    A regulator needs a cost without a way down to minus infinity, so negative eigenvalues of C
    become 0. Slope and constant are then fitted once more to what this C leaves.
    """
    joint, cost = torch.cat([state, action], -1).double(), cost.double()
    size = joint.shape[-1]
    row, column = torch.triu_indices(size, size)
    # 1/2 z' C z has each pair of different numbers twice
    half = torch.where(row == column, 0.5, 1.0).to(joint)
    line = torch.cat([joint, torch.ones_like(joint[:, :1])], -1)  # [N, Z + 1]
    products = joint[:, row] * joint[:, column] * half
    both = _least_squares(torch.cat([products, line], -1), cost)
    curvature = joint.new_zeros(size, size)
    curvature[row, column] = curvature[column, row] = both[: len(row)]
    values, vectors = torch.linalg.eigh(curvature)
    curvature = vectors * values.clamp(min=0) @ vectors.mT
    curved = 0.5 * ((joint @ curvature) * joint).sum(-1)
    straight = _least_squares(line, cost - curved)
    return QuadraticCost(curvature, straight[:-1], straight[-1])


def _least_squares(inputs: Tensor, targets: Tensor) -> Tensor:
    """[N, X], [N] -> [X]"""
    ridge = RIDGE * len(inputs) * torch.eye(inputs.shape[-1], dtype=inputs.dtype)
    found: Tensor = torch.linalg.solve(inputs.mT @ inputs + ridge, inputs.mT @ targets)
    return found
