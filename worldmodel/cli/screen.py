"""Lines that several commands print: episodes, scores, and errors on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these rooms import torch, and mistakes are answered without it
    import numpy as np
    from numpy.typing import NDArray

    from worldmodel.structs import Episode


def show_episode(number: int, episode: Episode) -> None:
    print(f"episode {number}: return {episode.total_reward:.1f}", flush=True)


def score(returns: NDArray[np.float64]) -> str:
    episodes = "1 episode" if len(returns) == 1 else f"{len(returns)} episodes"
    return f"score {returns.mean():.1f} ± {returns.std():.1f} over {episodes}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
