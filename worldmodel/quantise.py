"""Quantise weights to int8: integers, and one scale for each row.

Zeros stay zero. The small model file and the exported graphs store their weights in this form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127  # and -127: a symmetric range of int8, in which zero stays zero


def quantised(
    weights: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise weights to int8 integers and one scale for each row along ``axis``.

    integers * scale differs from the weights by at most half a scale.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(others, keepdims=True)
    scale = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    integers = np.round(weights / scale).clip(-LARGEST, LARGEST).astype(np.int8)
    return integers, scale.reshape(-1)


def restored(
    integers: NDArray[np.int8], scale: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Convert integers and scales back to float32 weights."""
    shape = [1] * integers.ndim
    shape[axis] = -1
    return integers.astype(np.float32) * scale.reshape(shape)
