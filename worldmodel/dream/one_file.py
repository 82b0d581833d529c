"""A dream in one HTML file: the page with the model inside, which needs no Python."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.dream.dream import Dream
from worldmodel.dream.page import HERE, describe, write_page
from worldmodel.models.operations import list_operations
from worldmodel.quantise import quantised, restored


def write_html(dream: Dream, task: str, path: Path) -> None:
    """Write the file; ConfigError names a part of the model that the page cannot compute."""
    description = describe(dream, task) | {"model": pack(dream)}
    if dream.agent.model.policy is None:
        description["agent"] = None  # a planner would need many times the work
    files.write(path, write_page(description, (HERE / "model.js").read_text()).encode())


def pack(dream: Dream) -> dict[str, Any]:
    """The operations of the model, its weights, and the state at each start."""
    model = dream.agent.model
    dynamics: Any = model.dynamics
    operations = list_operations(model)
    _, width, channels = model.spec.image
    line = np.arange(width * channels).reshape(1, width, channels)
    operations.lists["image"].append(
        {
            "do": "take",
            "of": [operations.lists["image"][-1]["to"]],
            "to": "shown",
            "places": model.spec.shown(line).ravel().tolist(),
            "size": line.size,
        }
    )
    places, content = _packed(operations.tensors)
    with torch.inference_mode():
        states = dynamics.state(dream.starts.beliefs).float().cpu().numpy()
    return {
        "lists": operations.lists,
        "tensors": places,
        "weights": _base64(content),
        "states": [_base64(state.astype("<f4").tobytes()) for state in states],
    }


def _packed(tensors: Sequence[Tensor]) -> tuple[list[dict[str, Any]], bytes]:
    """Where each tensor lies among the bytes of all, and these bytes."""
    places, content = [], bytearray()
    for number, tensor in enumerate(tensors):
        weights = tensor.numpy()
        if not np.isfinite(weights).all():
            raise ConfigError(f"html: tensor {number} of the model is not finite")
        kind, stored = _stored(weights)
        places.append({"kind": kind, "shape": list(weights.shape), "at": len(content)})
        content += stored
    return places, bytes(content)


def _stored(weights: NDArray[np.float32]) -> tuple[str, bytes]:
    """Matrices as integers of 16 bits, or of 8 if they already are such, as in a model file.

    Each row has a scale. Vectors are few and stay in float32. The bins of a histogram need it:
    values grow exponentially with them.
    """
    if weights.ndim == 1:
        return "float32", weights.astype("<f4").tobytes()
    integers, scale = quantised(weights, axis=0)
    if not np.allclose(restored(integers, scale, axis=0), weights, rtol=1e-5, atol=0.0):
        integers, scale = quantised(weights, axis=0, dtype=np.int16)
    little = integers.astype(integers.dtype.newbyteorder("<"))
    return integers.dtype.name, little.tobytes() + scale.astype("<f4").tobytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
