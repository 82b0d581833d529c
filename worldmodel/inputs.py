"""Inputs of an agent: checked and converted to tensors; every error names the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.structs import Spec

Observation = NDArray[np.uint8] | Tensor | Mapping[str, NDArray[Any] | Tensor]
"""An image, or ``{"image": image, "joints": [V], ...}`` for a model that takes vectors too."""


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise if a tensor has another shape or dtype."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name}: expected {str(dtype).removeprefix('torch.')} {list(shape)},"
            f" got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        )


def as_numbers(
    name: str, numbers: NDArray[Any] | Tensor, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Convert to float32; raise if the shape differs, or a number is NaN or infinite."""
    tensor = torch.as_tensor(numbers, dtype=torch.float32, device=device)
    check_tensor(name, tensor, shape, torch.float32)
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: expected finite numbers, got {tensor.tolist()}")
    return tensor


def as_observed(
    observation: Observation, spec: Spec, batch: tuple[int, ...], device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """The image [..., H, W, C] and the vectors, by name [..., V]; raise if one does not fit."""
    vectors: dict[str, Tensor] = {}
    image: Any = observation
    if isinstance(observation, Mapping):
        if observation.keys() != {"image", *spec.vectors}:
            expected, got = ", ".join(["image", *spec.vectors]), ", ".join(observation)
            raise ValueError(f"image: expected {expected}; got {got}")
        for name, size in spec.vectors.items():
            vectors[name] = as_numbers(name, observation[name], (*batch, size), device)
        image = observation["image"]
    if isinstance(image, np.ndarray):
        image = np.ascontiguousarray(image)  # a camera's flipped view has negative strides
    image = torch.as_tensor(image, device=device)
    check_tensor("image", image, (*batch, *spec.image), torch.uint8)
    return image, vectors


def as_under_way(
    delay: NDArray[np.floating] | Tensor,
    batch: tuple[int, ...],
    action_size: int,
    device: torch.device,
) -> Tensor:
    """Actions that are already under way: [D, A] of one robot, or [B, D, A] -> [B, D, A]"""
    actions = torch.as_tensor(delay, dtype=torch.float32, device=device)
    is_shaped = actions.ndim == len(batch) + 2 and actions.shape[-1] == action_size
    if not is_shaped or tuple(actions.shape[:-2]) != batch:
        expected = ", ".join(map(str, (*batch, "any", action_size)))
        raise ValueError(f"delay: expected [{expected}], got {list(actions.shape)}")
    if not torch.isfinite(actions).all():
        raise ValueError(f"delay: expected finite numbers, got {actions.tolist()}")
    return actions if batch else actions[None]
