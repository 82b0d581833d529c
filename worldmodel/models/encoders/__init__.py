"""Encoders: from an image to an embedding, one file a kind.

In ours no activation is ever larger than a quarter of the image's side: on a CPU the wide, thin
first layers of the usual four-layer stack cost more than all others together. And none is
normalised: the image is mostly its own mean, and dividing what is next to nothing by its size
hides what moves (on cartpole the slim encoder's reconstruction error after 600 updates was 5.4
without, and 7.1 to 8.3 with LayerNorm over channels at neighbouring settings:
assets/model_trials.csv).

``EncoderSettings`` is the only list of kinds.
"""

from __future__ import annotations

import torch
from torch import nn

from worldmodel.models.encoders.patch import PatchEncoder, PatchSettings
from worldmodel.models.encoders.planet import PlanetEncoder, PlanetSettings
from worldmodel.models.encoders.slim import SlimEncoder, SlimSettings

__all__ = [
    "Encoder",
    "EncoderSettings",
    "PatchEncoder",
    "PatchSettings",
    "PlanetEncoder",
    "PlanetSettings",
    "SlimEncoder",
    "SlimSettings",
    "scale_weights",
]

EncoderSettings = SlimSettings | PatchSettings | PlanetSettings
Encoder = SlimEncoder | PatchEncoder | PlanetEncoder


@torch.no_grad()
def scale_weights(encoder: nn.Module, gain: float) -> None:
    """Scale the initial weights by ``gain``, because SiLU shrinks the signal."""
    for layer in encoder.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.mul_(gain)
