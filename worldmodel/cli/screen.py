"""How a command speaks: numbers, episodes and columns in the same words everywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldmodel.structs import Episode


def show_episode(number: int, episode: Episode) -> None:
    print(f"episode {number}: return {episode.total_reward:.1f}", flush=True)


def score(returns: NDArray[np.float64]) -> str:
    return f"score {returns.mean():.1f} ± {returns.std():.1f} over {len(returns)} episodes"


def aligned(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        indent
        + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
