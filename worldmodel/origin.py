"""What agents and plans say of themselves; this needs numpy only, as exported agents do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Origin:
    """Where the weights of an agent come from."""

    path: str  # of the run, or of the model file
    task: str
    env_steps: int | None  # of training; None if it is not known
    checkpoint: str  # its name
    fallback: str | None = None  # why the newest checkpoint was not used; None: it was


def agents_words(
    origin: Origin | None,
    image: tuple[int, ...],
    vectors: Mapping[str, int],
    action_size: int,
    has_choices: bool,
    planner: Mapping[str, Any] | None,
) -> str:
    """``cartpole_swingup, 6,000 env steps, image 64x64x3, 1 action, mppi 64x3x6``

    The planner's numbers are candidates, iterations and the length of the look-ahead. Without a
    planner the last words are ``its policy``.
    """
    words = []
    if origin is not None:
        words.append(origin.task)
        if origin.env_steps is not None:
            words.append(f"{origin.env_steps:,} env steps")
        if origin.fallback is not None:
            words.append("not its newest checkpoint")
    words.append(f"image {'x'.join(map(str, image))}")
    words += [f"{name} {size}" for name, size in vectors.items()]
    words.append(counted(action_size, "choice" if has_choices else "action"))
    if planner is None:
        return ", ".join([*words, "its policy"])
    sizes = (planner.get(name) for name in ("candidates", "iterations", "horizon"))
    numbers = "x".join(str(size) for size in sizes if size is not None)
    words.append(f"{planner['kind']} {numbers}")
    return ", ".join(words)


def plans_words(
    origin: str, first: NDArray[np.float32], value: Any, iterations: int, milliseconds: float
) -> str:
    """``search, first [0.12, -0.5], value 3.21, 3 iterations, 12.3 ms``; a batch counts robots."""
    acted = f"first {np.round(first.astype(np.float64), 3).tolist()}"
    worth = "" if origin != "search" or first.ndim > 1 else f", value {float(value):.4g}"
    if first.ndim > 1:
        acted = counted(len(first), "robot")
    return f"{origin}, {acted}{worth}, {counted(iterations, 'iteration')}, {milliseconds:.1f} ms"


def counted(count: int, thing: str) -> str:
    """``1 action``, ``2 actions``"""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
