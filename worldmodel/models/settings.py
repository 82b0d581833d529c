"""The settings of a model: which parts meet, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from worldmodel.checks import at_least, between, more_than, require
from worldmodel.models.dynamics import DynamicsSettings
from worldmodel.models.dynamics.recurrent import RecurrentSettings
from worldmodel.models.layers import Layers
from worldmodel.models.posteriors import FilterSettings, PosteriorSettings


@dataclass(frozen=True)
class EncoderConfig:
    kind: Literal["slim", "patch", "planet"] = "patch"
    width: Annotated[int, at_least(1)] = 16  # the unit of its layers' widths


@dataclass(frozen=True)
class DecoderConfig:
    kind: Literal["slim", "planet"] = "slim"
    width: Annotated[int, at_least(1)] = 16  # of its last layer but one; the others double it


@dataclass(frozen=True)
class HeadConfig:
    """A small network on the features: ``kind`` is the distribution that it predicts."""

    kind: Literal["twohot", "normal", "bernoulli", "tanh_normal", "none"]
    layers: Annotated[int, at_least(1)] = 2
    size: Annotated[int, at_least(1)] = 256


@dataclass(frozen=True)
class ModelConfig:
    encoder: EncoderConfig = EncoderConfig()
    encoder_gain: Annotated[float, more_than(0)] = 3.0  # of its first weights, over PyTorch's own
    decoder: DecoderConfig = DecoderConfig()
    layers: Layers = "normed"  # LayerNorm and SiLU, or PlaNet's bare ReLU
    dynamics: DynamicsSettings = RecurrentSettings()
    posterior: PosteriorSettings = FilterSettings()
    reward: HeadConfig = HeadConfig("twohot")
    discount: HeadConfig = HeadConfig("bernoulli", layers=1)
    value: HeadConfig = HeadConfig("twohot")
    policy: HeadConfig = HeadConfig("tanh_normal")
    image_bits: Annotated[int, between(1, 8)] = 8  # PlaNet: 5, with uniform noise inside a bin
    mean_image: bool = True  # draw the difference from the seed episodes' mean image

    def check(self, path: str) -> None:
        allowed = {
            "reward": ("twohot", "normal"),
            "discount": ("bernoulli", "none"),
            "value": ("twohot", "normal", "none"),
            "policy": ("tanh_normal", "none"),
        }
        for name, kinds in allowed.items():
            kind = getattr(self, name).kind
            require(
                kind in kinds, f"{path}.{name}.kind: expected one of {', '.join(kinds)}; got {kind}"
            )
        require(
            (self.value.kind == "none") == (self.policy.kind == "none"),
            f"{path}.policy.kind: value and policy are learned together; set both to none or"
            f" neither (value is {self.value.kind}, policy is {self.policy.kind})",
        )
