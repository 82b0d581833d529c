"""Encoders: from an image to an embedding, one file a kind.

The patch and the slim encoder begin with a stride of four. On a CPU the first layers of the usual
four-layer stack, with large images of few channels, cost more than all others together. No layer
has a norm: an image minus its mean is mostly close to zero, and dividing it by its own size hides
what moves (on cartpole the slim encoder's reconstruction error after 600 updates was 5.4 without,
and 7.1 to 8.3 with LayerNorm over channels at neighbouring settings:
assets/trials/model_trials.csv).

``EncoderSettings`` is the only list of kinds.
"""

from __future__ import annotations

import torch
from torch import nn

from worldmodel.models.encoders.masked import MaskedEncoder, MaskedSettings
from worldmodel.models.encoders.mlp import MLPEncoder, MLPSettings
from worldmodel.models.encoders.patch import PatchEncoder, PatchSettings
from worldmodel.models.encoders.pixels import PixelsEncoder, PixelsSettings
from worldmodel.models.encoders.planet import PlanetEncoder, PlanetSettings
from worldmodel.models.encoders.pretrained import PretrainedSettings
from worldmodel.models.encoders.slim import SlimEncoder, SlimSettings

__all__ = [
    "Encoder",
    "EncoderSettings",
    "MLPEncoder",
    "MLPSettings",
    "MaskedEncoder",
    "MaskedSettings",
    "PatchEncoder",
    "PatchSettings",
    "PixelsEncoder",
    "PixelsSettings",
    "PlanetEncoder",
    "PlanetSettings",
    "PretrainedSettings",
    "SlimEncoder",
    "SlimSettings",
    "scale_weights",
]

EncoderSettings = (
    SlimSettings
    | PatchSettings
    | PlanetSettings
    | MLPSettings
    | PixelsSettings
    | MaskedSettings
    | PretrainedSettings
)
Encoder = SlimEncoder | PatchEncoder | PlanetEncoder | MLPEncoder | PixelsEncoder | MaskedEncoder


@torch.no_grad()
def scale_weights(encoder: nn.Module, gain: float) -> None:
    """Scale the initial weights by ``gain``, because SiLU shrinks the signal."""
    for layer in encoder.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.mul_(gain)
