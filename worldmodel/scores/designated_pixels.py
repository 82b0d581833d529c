"""Pixel scores: minus the distance that marked pixels are expected to have from their goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent

Pixel = tuple[int, int]
"""A row and a column of an image, counted from its upper left corner."""


@dataclass(frozen=True)
class DesignatedPixels:
    """A score for beliefs with marks: every mark has a goal pixel.

    A mark is a probability map that the dynamics carry along. Its distance is the expected one,
    in pixels. The last row of the look-ahead weighs ``last_weight``, the others 1: what counts is
    where the plan ends, as in Ebert et al. 2018 (arXiv 1812.00568).
    """

    goals: Sequence[Pixel]  # as many as marks
    last_weight: float = 10.0

    def of_rows(self, futures: Latent, actions: Tensor, heads: Imagination) -> Tensor:
        distances = self.distances(futures).sum(-1)  # [B, N, L]
        weights = torch.ones_like(distances)
        weights[..., -1] = self.last_weight
        return -weights * distances

    def distances(self, latent: Latent) -> Tensor:
        """The expected distance of each mark from its goal: [...] -> [..., Q]"""
        marks: Any = getattr(latent, "marks", None)
        count = 0 if marks is None else marks.shape[-3]
        if count != len(self.goals):
            raise ValueError(
                f"score: {len(self.goals)} goal pixels need as many marks, and the belief has"
                f" {count}; mark it before planning: belief = agent.mark(belief, [(row, column)])"
            )
        marks = marks.float()
        rows, columns = (torch.arange(size, device=marks.device) for size in marks.shape[-2:])
        goals = torch.tensor(self.goals, device=marks.device)[..., None, None]  # [Q, 2, 1, 1]
        away = torch.hypot((rows[:, None] - goals[:, 0]).float(), (columns - goals[:, 1]).float())
        expected: Tensor = (marks * away).sum((-1, -2))  # away [Q, H, W]
        return expected


def refuse_outside(name: str, pixels: Sequence[Pixel], height: int, width: int) -> None:
    """Raise if a pixel is not in the picture."""
    for row, column in pixels:
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"{name}: {row},{column} is outside of the picture; give row,column with a row of"
                f" 0 to {height - 1} and a column of 0 to {width - 1}"
            )
