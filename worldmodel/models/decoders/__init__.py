"""Decoders: from a latent to an image, which is the mean of a unit Gaussian over pixels.

One file a kind; ``DecoderSettings`` is the only list of kinds.
"""

from __future__ import annotations

from worldmodel.models.decoders.itself import Itself, ItselfSettings
from worldmodel.models.decoders.mlp import MLPDecoder, MLPSettings
from worldmodel.models.decoders.planet import PlanetDecoder, PlanetSettings
from worldmodel.models.decoders.slim import SlimDecoder, SlimSettings

__all__ = [
    "Decoder",
    "DecoderSettings",
    "Itself",
    "ItselfSettings",
    "MLPDecoder",
    "MLPSettings",
    "PlanetDecoder",
    "PlanetSettings",
    "SlimDecoder",
    "SlimSettings",
]

DecoderSettings = SlimSettings | PlanetSettings | MLPSettings | ItselfSettings
Decoder = SlimDecoder | PlanetDecoder | MLPDecoder | Itself
