"""Inputs of an agent: checked and converted to tensors; every error names the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.images import ALONE
from worldmodel.structs import Spec

Observation = NDArray[np.uint8] | Tensor | Mapping[str, NDArray[Any] | Tensor]
"""An image, or ``{"image": image, "joints": [V], ...}`` for a model that takes vectors too.

A model of several cameras takes their images by name: ``{"front": image, "wrist": image, ...}``.
"""


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
    """The image [B, H, W, C] and the vectors, by name [B, V]; raise if one does not fit.

    ``batch``: the leading axes of what is given, none for one robot; then B is 1.
    """
    images, given = spec.fitting.split(observation, spec.vectors)
    vectors = {
        name: as_numbers(name, vector, (*batch, spec.vectors[name]), device)
        for name, vector in given.items()
    }
    image = _fitted(images, spec, batch)
    if isinstance(image, np.ndarray):
        image = np.ascontiguousarray(image)  # a camera's flipped view has negative strides
    tensor = torch.as_tensor(image, device=device)
    if batch:
        return tensor, vectors
    return tensor[None], {name: vector[None] for name, vector in vectors.items()}


def as_done(
    action: NDArray[np.floating] | Tensor,
    action_size: int,
    batch: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """The action that was done: [A] of one robot, or [B, A] -> [B, A]"""
    done = as_numbers("action", action, (*batch, action_size), device)
    return done if batch else done[None]


def leading(observation: Observation, spec: Spec) -> tuple[int, ...]:
    """The leading axes of a batch's observation; none of one robot's."""
    images, _ = spec.fitting.split(observation, spec.vectors)
    one = next(iter(images.values())) if isinstance(images, Mapping) else images
    return tuple(getattr(one, "shape", ())[:-3])


def _fitted(images: Any, spec: Spec, batch: tuple[int, ...]) -> NDArray[np.uint8] | Tensor:
    """[..., H, W, C] an image of the model's shape as it is; any other is fitted."""
    is_bytes = getattr(images, "dtype", None) in (np.uint8, torch.uint8)
    if is_bytes and tuple(images.shape) == (*batch, *spec.image):
        whole: NDArray[np.uint8] | Tensor = images
        return whole
    if not batch:
        return spec.fitting(images)
    each = images if isinstance(images, Mapping) else {ALONE: images}
    for name, part in each.items():
        got = tuple(getattr(part, "shape", ()))
        if len(got) < 3 or got[:-3] != batch:
            expected = [*batch, *spec.fitting.shapes.get(name, spec.image)]
            kind = getattr(part, "dtype", type(part).__name__)
            raise ValueError(
                f"{name}: expected uint8 {expected},"
                f" got {str(kind).removeprefix('torch.')} {list(got)}"
            )
    rows = [{name: part[row] for name, part in each.items()} for row in range(batch[0])]
    given = [row if isinstance(images, Mapping) else row[ALONE] for row in rows]
    return np.stack([np.asarray(_fitted(one, spec, batch[1:])) for one in given])


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
