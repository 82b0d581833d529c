"""The settings of a model: the kinds of its parts, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from worldmodel.checks import between, more_than, require
from worldmodel.models.decoders import DecoderSettings, SlimSettings
from worldmodel.models.dynamics import DynamicsSettings
from worldmodel.models.dynamics.recurrent import RecurrentSettings
from worldmodel.models.encoders import EncoderSettings, PatchSettings
from worldmodel.models.heads import BernoulliSettings, NormalSettings, TwoHotSettings
from worldmodel.models.layers import Layers
from worldmodel.models.policy import PolicySettings
from worldmodel.models.posteriors import FilterSettings, PosteriorSettings


@dataclass(frozen=True)
class ModelSettings:
    encoder: EncoderSettings = PatchSettings()
    encoder_gain: Annotated[float, more_than(0)] = 3.0  # of its first weights, over PyTorch's own
    decoder: DecoderSettings = SlimSettings()
    layers: Layers = "normed"  # LayerNorm and SiLU, or PlaNet's ReLU without a norm
    dynamics: DynamicsSettings = RecurrentSettings()
    posterior: PosteriorSettings = FilterSettings()
    reward: TwoHotSettings | NormalSettings | None = TwoHotSettings()
    discount: BernoulliSettings | None = BernoulliSettings()
    value: TwoHotSettings | NormalSettings | None = TwoHotSettings()
    policy: PolicySettings | None = PolicySettings()
    image_bits: Annotated[int, between(1, 8)] = 8  # PlaNet: 5, with uniform noise inside a bin
    mean_image: bool = True  # draw the difference from the seed episodes' mean image

    def check(self, path: str) -> None:
        value, policy = (
            "none" if part is None else part.kind for part in (self.value, self.policy)
        )
        require(
            (self.value is None) == (self.policy is None),
            f"{path}.policy.kind: value and policy are learned together; set both to none or"
            f" neither (value is {value}, policy is {policy})",
        )

    def offers(self, need: str) -> tuple[bool, str]:
        """Whether a need of a term or behaviour is met, and the setting that decides it.

        A need that names no part is met if the dynamics ``offer`` it.
        """
        parts = {
            "head:reward": (self.reward is not None, "model.reward is none"),
            "head:discount": (self.discount is not None, "model.discount is none"),
            "head:value": (self.value is not None, "model.value is none"),
            "policy": (self.policy is not None, "model.policy is none"),
            "decoder": (self.decoder is not None, "model.decoder is none"),
        }
        dynamics = f"model.dynamics.kind is {self.dynamics.kind}"
        return parts.get(need, (need in self.dynamics.offers, dynamics))
