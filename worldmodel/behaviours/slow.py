"""Slow copies of networks: they follow the learned ones, and make targets that stay steady."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """Move slow weights towards fast ones."""
    for behind, ahead in zip(slow.parameters(), fast.parameters(), strict=True):
        behind.lerp_(ahead, rate)


def named(part: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The tensors of a part that no model holds, for a checkpoint."""
    return {f"{prefix}.{name}": tensor for name, tensor in part.state_dict().items()}


def load(part: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
    """Load the tensors that ``named`` gave."""
    part.load_state_dict({name: state[f"{prefix}.{name}"] for name in part.state_dict()})
