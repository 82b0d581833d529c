"""The settings of a model: the kinds of its parts, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from worldmodel.checks import between, hints, kinds, more_than, require, sections
from worldmodel.models.contrast import ContrastSettings
from worldmodel.models.decoders import DecoderSettings, SlimSettings
from worldmodel.models.dynamics import DynamicsSettings
from worldmodel.models.dynamics.none import NoDynamicsSettings
from worldmodel.models.dynamics.recurrent import RecurrentSettings
from worldmodel.models.encoders import EncoderSettings, PatchSettings, PretrainedSettings
from worldmodel.models.ensemble import EnsembleSettings
from worldmodel.models.heads import BernoulliSettings, NormalSettings, TwoHotSettings
from worldmodel.models.layers import Layers
from worldmodel.models.likelihoods import Likelihoods
from worldmodel.models.policy import PolicyKinds, PolicySettings
from worldmodel.models.posteriors import FilterSettings, PosteriorSettings
from worldmodel.models.time_varying import TimeVaryingSettings


@dataclass(frozen=True)
class ModelSettings:
    trained_by: ClassVar[Mapping[str, str]] = {"contrast": "contrastive", "ensemble": "ensemble"}
    """The parts that one term of the objective alone trains, and that term."""

    encoder: EncoderSettings = PatchSettings()
    """The network that reads an image: patch begins with patches of 4x4 pixels, slim with
    overlapping ones, planet is PlaNet's (64x64 images only), mlp has dense layers only, for small
    images of any size, pixels hands the image through, masked is a transformer that can hide
    patches from itself, pretrained the same with weights of a pretraining."""
    encoder_gain: Annotated[float, more_than(0)] = 3.0
    """Factor on the encoder's initial weights, over PyTorch's own. Larger: images weigh more in the
    first beliefs."""
    decoder: DecoderSettings | None = SlimSettings()
    """The network that draws an image from a latent: slim takes sizes that are multiples of 16,
    planet is PlaNet's (64x64 images only), mlp has dense layers only, for small images of any
    size, itself is for latents that are images. none: nothing is drawn, and reports and dreams are
    refused."""
    contrast: ContrastSettings | None = None
    """The networks that compare foreseen latents with images, for objective.contrastive. none: the
    model has none."""
    ensemble: EnsembleSettings | None = None
    """The networks whose disagreement says what the model does not know, for planning.pessimism and
    exploration.curiosity. none: the model has none."""
    likelihood: Likelihoods = "gaussian"
    """The meaning of the decoder's numbers: gaussian, the colours themselves with an error of one;
    bernoulli, the logits of colours, for images that are nearly black and white."""
    layers: Layers = "normed"
    """Dense layers of dynamics, posterior and heads: normed is LayerNorm and SiLU, plain is
    PlaNet's ReLU without a norm."""
    dynamics: DynamicsSettings = RecurrentSettings()
    """The network that imagines the next latent from a latent and an action: recurrent is PlaNet's
    recurrent state-space model, recurrent_categorical Dreamer's, which draws classes instead of
    numbers, gaussian the first without memory, deterministic one vector without chance,
    locally_linear Embed to Control's, fitted_linear SOLAR's one linear step, moving_kernels moves
    the pixels of the last image, none imagines that nothing changes."""
    posterior: PosteriorSettings = FilterSettings()
    """The network that reads latents from images: filter uses the past and the newest image,
    one_step and deterministic the newest image alone, smoother also later images, in learning;
    exact takes the image as it is."""
    reward: TwoHotSettings | NormalSettings | None = TwoHotSettings()
    """The head that predicts rewards: twohot is a histogram, which suits rewards of any size,
    normal a mean. none: no reward is learned."""
    discount: BernoulliSettings | None = BernoulliSettings()
    """The head that predicts whether the task goes on after a row: bernoulli is a probability.
    none: it always goes on."""
    value: TwoHotSettings | NormalSettings | None = TwoHotSettings()
    """The head that predicts the return beyond the plan's end: twohot is a histogram, normal a
    mean. none: the plan counts its own rewards only."""
    policy: PolicyKinds | None = PolicySettings()
    """The network that proposes actions to the search, or acts by itself: tanh_normal is a Gaussian
    in [-1, 1], or probabilities of choices, squashed the tanh of a Gaussian, greedy the choice with
    the highest value, time_varying linear, with gains for each row. none: no proposals."""
    image_bits: Annotated[int, between(1, 8)] = 8
    """Bits of each colour that the model sees. Smaller: coarser colours, with noise inside their
    steps (PlaNet: 5)."""
    mean_image: bool = True
    """Whether the decoder draws the difference from the mean image of the first episodes, instead
    of the whole image. A pretrained encoder brings the mean image that it learned with."""

    def check(self, path: str) -> None:
        require(
            self.value is None or self.policy is not None,
            f"{path}.policy.kind: the value is that of a policy, and there is none; write"
            f" {path}.value: none, or {path}.policy.kind: tanh_normal",
        )
        require(
            not isinstance(self.policy, TimeVaryingSettings) or self.dynamics.latent == "timed",
            f"{path}.policy.kind: time_varying has gains for each row, and latents of"
            f" {path}.dynamics.kind = {self.dynamics.kind} count no rows; write"
            f" {path}.dynamics.kind: fitted_linear",
        )

    @property
    def fits_pixels(self) -> bool:
        """Whether a new run learns the mean image from its first episodes."""
        return self.mean_image and not isinstance(self.encoder, PretrainedSettings)

    def offers(self, need: str) -> tuple[bool, str, str]:
        """Whether a need of a term or behaviour is met, the setting that decides it, and a remedy.

        A need that names no part is met if the dynamics or the policy ``offer`` it. The remedy is
        empty where only leaving out helps what has the need.
        """
        policies: list[Any] = sections(hints(ModelSettings)["policy"])
        having = [kind for part in policies if need in part.offers for kind in kinds(part)]
        if having and self.policy is not None:
            is_met, remedy = need in self.policy.offers, f"model.policy.kind: {' or '.join(having)}"
            return is_met, f"model.policy.kind is {self.policy.kind}", remedy
        if having:
            return False, "model.policy is none", ""
        parts = {
            "head:reward": (self.reward is not None, "model.reward is none"),
            "head:discount": (self.discount is not None, "model.discount is none"),
            "head:value": (self.value is not None, "model.value is none"),
            "dynamics": (
                not isinstance(self.dynamics, NoDynamicsSettings),
                "model.dynamics.kind is none",
            ),
            "decoder": (self.decoder is not None, "model.decoder is none"),
            "masked_encoder": (
                "masked_encoder" in self.encoder.offers,
                f"model.encoder ({self.encoder.kind}) learns none",
            ),
            "decoder or contrast": (
                self.decoder is not None or self.contrast is not None,
                "model.decoder and model.contrast are none",
            ),
            "ensemble": (self.ensemble is not None, "model.ensemble is none"),
            "contrast": (self.contrast is not None, "model.contrast is none"),
            "acting_filter": (
                "acting_filter" in self.posterior.offers,
                f"model.posterior ({self.posterior.kind}) has none",
            ),
        }
        dynamics = f"model.dynamics.kind is {self.dynamics.kind}"
        return *parts.get(need, (need in self.dynamics.offers, dynamics)), ""
