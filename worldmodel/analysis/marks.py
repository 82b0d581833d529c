"""A marked pixel that is followed into imagined images: where the model expects it to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis.predictions import decode, image_change
from worldmodel.structs import Episode, Latent, Spec, at

ROWS_FOLLOWED = 10


@dataclass(frozen=True)
class Followed:
    """A pixel of one image, and the maps of where it is in imagined rows after it."""

    row: int  # of the last image seen
    pixel: tuple[int, int]  # row and column
    seen: NDArray[np.uint8]  # [H, W, 3]
    truth: NDArray[np.uint8]  # [L, H, W, 3] the images that came
    images: NDArray[np.uint8]  # [L, H, W, 3] imagined from the actions that were done
    maps: NDArray[np.float32]  # [L, H, W] each sums to one for every camera


@torch.inference_mode()
def follow_pixel(agent: Agent, episode: Episode, beliefs: Latent) -> Followed:
    """Mark the pixel that stands out most, before the rows in which most moves, and follow it.

    ``beliefs``: [T] of the episode. For agents that ``can_mark``.
    """
    spec = agent.model.spec
    rows = min(ROWS_FOLLOWED, len(episode) - 1)
    moves = np.convolve(image_change(episode, spec)[1:], np.ones(rows), "valid")
    row = int(moves.argmax())
    pixel = standing_out(episode, row, spec)
    after = slice(row + 1, row + 1 + rows)
    actions = torch.from_numpy(episode.action[after]).to(agent.device)
    belief = agent.mark(at(beliefs, row), [pixel])
    imagined: Any = agent.model.imagine(at(belief, None), actions[None], None)
    maps = imagined.marks[0, :, 0].float().cpu().numpy()
    cameras = spec.shown(episode.image[row]).shape[1] // maps.shape[-1]
    return Followed(
        row,
        pixel,
        seen=spec.shown(episode.image[row]),
        truth=spec.shown(episode.image[after]),
        images=spec.shown(decode(agent, imagined))[0],
        maps=np.tile(maps, cameras),  # beside each other, as their pictures are
    )


def standing_out(episode: Episode, row: int, spec: Spec) -> tuple[int, int]:
    """The pixel that differs most from the mean image of the episode: something that moves."""
    images = spec.shown(episode.image).astype(np.float64)
    apart = np.abs(images[row] - images.mean(0)).sum(-1)
    place: Sequence[Any] = np.unravel_index(int(apart.argmax()), apart.shape)
    return int(place[0]), int(place[1]) % spec.image[1]
