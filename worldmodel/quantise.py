"""Quantise weights: integers, and one scale for each row.

Zeros stay zero. The small model file and the exported graphs store their weights in this form, in
eight bits; so does the file of a dream, in sixteen where eight would change them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantised(
    weights: NDArray[np.float32], axis: int, dtype: type[np.signedinteger[Any]] = np.int8
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Quantise weights to integers and one scale for each row along ``axis``.

    integers * scale differs from the weights by at most half a scale.
    """
    most = np.iinfo(dtype).max  # and -most: a symmetric range, in which zero stays zero
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(others, keepdims=True)
    scale = np.where(largest > 0, largest / most, 1.0).astype(np.float32)
    integers = np.round(weights / scale).clip(-most, most).astype(dtype)
    return integers, scale.reshape(-1)


def restored(integers: NDArray[Any], scale: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Convert integers and scales back to float32 weights."""
    shape = [1] * integers.ndim
    shape[axis] = -1
    return integers.astype(np.float32) * scale.reshape(shape)
