"""The flow of a picture: where each pixel comes from, and how maps move along with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TINY = 1e-6  # less probability than this has left the picture


def flow_of(masks: Tensor, kernels: Tensor) -> Tensor:
    """Where each pixel comes from: the weights of its neighbours.

    masks [M, 1 + K, H, W] (the first stays in place), kernels [M, K, k * k] -> [M, k * k, H, W]
    """
    stay = torch.zeros_like(kernels[:, :1])
    stay[..., kernels.shape[-1] // 2] = 1.0
    every = torch.cat([stay, kernels], 1)  # [M, 1 + K, k * k]
    flow: Tensor = every.mT @ masks.flatten(2)
    return flow.reshape(*flow.shape[:2], *masks.shape[-2:])


def gather(maps: Tensor, flow: Tensor) -> Tensor:
    """Each pixel's new value from its neighbours: [M, C, H, W], [M, k * k, H, W] -> [M, C, H, W]

    Beyond the border the picture goes on as at the border.
    """
    side, (height, width) = int(flow.shape[1] ** 0.5), maps.shape[-2:]
    padded = functional.pad(maps, [side // 2] * 4, mode="replicate")
    moved = torch.zeros_like(maps)
    for tap, weight in enumerate(flow.unbind(1)):  # a third of the time that `unfold` takes
        row, column = divmod(tap, side)
        near = padded[..., row : row + height, column : column + width]
        moved = torch.addcmul(moved, near, weight[:, None])
    return moved


def move_marks(marks: Tensor, flow: Tensor) -> Tensor:
    """Move probability maps, each summing to one before and after: [M, Q, H, W] -> [M, Q, H, W]

    A map that leaves the picture stays where it was seen last.
    """
    if marks.shape[1] == 0:
        return marks
    shares = flow / flow.sum(1, keepdim=True).clamp(min=TINY)  # paint moves no probability
    moved = gather(marks, shares)
    total = moved.sum((-1, -2), keepdim=True)
    return torch.where(total > TINY, moved / total.clamp(min=TINY), marks)
