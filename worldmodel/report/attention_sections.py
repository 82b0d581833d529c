"""The section on attention: which patches of an image a transformer reads most."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.models.encoders import MaskedEncoder
from worldmodel.report.folder import Folder
from worldmodel.report.page import Section
from worldmodel.report.strips import STRIP_MOMENTS, Row, Strip, few, paint_share
from worldmodel.structs import Episode

BRIGHTEST = 4.0  # times the even share, from which on a patch is drawn brightest


def show_attention(folder: Folder, agent: Agent, episode: Episode) -> list[Section]:
    """None if the encoder has no attention."""
    encoder = agent.model.encoder
    if not isinstance(encoder, MaskedEncoder):
        return []
    moments = np.linspace(0, len(episode) - 1, STRIP_MOMENTS).round().astype(int)
    moments = np.unique(moments)
    images = episode.image[moments]
    read = how_much_read(agent, encoder, images)  # [layers, M, G, G]
    shown = agent.model.spec.shown(images)
    plain = np.zeros(len(moments), np.bool_)
    rows = [Row("image", shown, ~plain, plain)]
    for number, layer in enumerate(read, start=1):
        painted = paint_share(layer / BRIGHTEST)
        times = shown.shape[1] // layer.shape[1], shown.shape[2] // layer.shape[2]
        large = painted.repeat(times[0], 1).repeat(times[1], 2)
        rows.append(Row(f"block {number}", large, ~plain, plain))
    strip = Strip(
        "How much each patch is read by all patches",
        [f"row {moment}" for moment in moments],
        rows,
        few(len(moments)),
        foot=f"Mean over heads and readers; brightest: {BRIGHTEST:g} times an even share or more.",
    )
    return [
        Section(
            "Where it looks",
            f"The encoder is a transformer over {encoder.count} patches: in each of its"
            f" {len(read)} blocks every patch reads from all patches, with weights that sum to 1.",
            "Bright patches are those that the others take most from; they should follow what"
            " moves, and need not: a patch can also serve as a resting place for weights.",
            [folder.strip("attention.png", strip)],
        )
    ]


@torch.no_grad()
def how_much_read(
    agent: Agent, encoder: MaskedEncoder, images: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """[M, H, W, C] -> [layers, M, G, G]: 1 is an even share"""
    device = agent.device
    weights = encoder.attention(agent.model.pixels(torch.from_numpy(images).to(device)))
    shares = weights.mean((2, 3)) * encoder.count  # over heads and readers: [layers, M, P]
    side = round(encoder.count**0.5)
    return shares.reshape(*shares.shape[:2], side, side).double().cpu().numpy()
