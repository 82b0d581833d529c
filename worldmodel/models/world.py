"""The world model: its parts under two verbs, *observe* (with images) and *imagine* (without)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldmodel.config import HeadConfig, ModelConfig
from worldmodel.models.decoder import PlanetDecoder, SlimDecoder
from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models.encoder import PatchEncoder, PlanetEncoder, SlimEncoder, amplify
from worldmodel.models.heads import Bernoulli, Constant, Head, Normal, TwoHot
from worldmodel.models.layers import GRUCell, Layer, NormedGRUCell, normed, plain
from worldmodel.models.pixels import Pixels
from worldmodel.models.policy import CategoricalPolicy, Policy
from worldmodel.models.vectors import EMBED_SIZE, Vectors
from worldmodel.structs import Latent, Spec

ENCODERS: dict[str, type[PatchEncoder] | type[SlimEncoder] | type[PlanetEncoder]] = {
    "patch": PatchEncoder,
    "slim": SlimEncoder,
    "planet": PlanetEncoder,
}
DECODERS: dict[str, type[SlimDecoder] | type[PlanetDecoder]] = {
    "slim": SlimDecoder,
    "planet": PlanetDecoder,
}
HEADS: dict[str, type[TwoHot] | type[Normal] | type[Bernoulli]] = {
    "twohot": TwoHot,
    "normal": Normal,
    "bernoulli": Bernoulli,
}
LAYERS: dict[str, Layer] = {"normed": normed, "plain": plain}
CELLS: dict[str, type[NormedGRUCell] | type[GRUCell]] = {"normed": NormedGRUCell, "plain": GRUCell}


class WorldModel(nn.Module):
    """Parameters only: whoever acts keeps the belief, whoever plans keeps the plan."""

    def __init__(self, config: ModelConfig, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        image_size, _, channels = spec.image
        action_size, vectors = spec.action_size, spec.vectors
        layer = LAYERS[config.dynamics.layers]
        sizes = config.dynamics
        self.pixels = Pixels(image_size, channels, config.image_bits)
        self.encoder = ENCODERS[config.encoder.kind](image_size, channels, config.encoder.width)
        amplify(self.encoder, config.encoder_gain)
        self.dynamics = Recurrent(
            action_size=action_size,
            embed_size=self.encoder.embed_size + (EMBED_SIZE if vectors else 0),
            deter_size=sizes.deter_size,
            stoch_size=sizes.stoch_size,
            hidden_size=sizes.hidden_size,
            min_std=sizes.min_std,
            layer=layer,
            cell=CELLS[sizes.layers](sizes.hidden_size, sizes.deter_size),
        )
        features = self.dynamics.feature_size
        self.decoder = DECODERS[config.decoder.kind](
            features, image_size, channels, config.decoder.width
        )
        self.reward = build_head(config.reward, features, layer, absent=0.0)
        self.discount = build_head(config.discount, features, layer, absent=1.0)
        self.value = build_head(config.value, features, layer, absent=0.0)
        self.slow_value = copy.deepcopy(self.value).requires_grad_(False)
        policy = CategoricalPolicy if spec.has_choices else Policy
        self.policy = (
            policy(features, action_size, config.policy.layers, config.policy.size, layer)
            if config.policy.kind != "none"
            else None
        )
        self.vectors = Vectors(features, vectors, layer) if vectors else None

    def embed(self, image: Tensor, vectors: Mapping[str, Tensor] | None = None) -> Tensor:
        """[..., H, W, C] uint8, name -> [..., V] -> [..., E]"""
        return self.join(self.encoder(self.pixels(image)), vectors or {})

    def join(self, embed: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """The image's embedding with that of what was felt: [..., E]"""
        if self.vectors is None:
            return embed
        if missing := self.vectors.sizes.keys() - vectors.keys():
            raise ValueError(
                f"image: this model also takes the vectors {', '.join(self.vectors.sizes)};"
                f" {', '.join(sorted(missing))} missing"
            )
        return torch.cat([embed.float(), self.vectors(vectors)], -1)

    def observe_step(
        self,
        latent: Latent,
        action: Tensor,
        image: Tensor,
        noise: Tensor | None = None,
        vectors: Mapping[str, Tensor] | None = None,
    ) -> Latent:
        """What is believed after an action and an image; without noise it follows the mean."""
        embed = self.embed(image, vectors).float()
        return self.dynamics.observe_step(latent, action, embed, noise)

    def imagine(self, latent: Latent, actions: Tensor, noise: Tensor | None) -> Latent:
        """Without images: latent [...], actions [..., L, A], noise [..., L, S] -> [..., L]"""
        latents = []
        for step in range(actions.shape[-2]):
            drawn = None if noise is None else noise[..., step, :]
            latent = self.dynamics.imagine_step(latent, actions[..., step, :], drawn)
            latents.append(latent)
        return Latent.stack(latents, dim=len(actions.shape) - 2)

    def decode(self, features: Tensor) -> Tensor:
        """[..., F] -> [..., H, W, C] uint8"""
        return self.pixels.to_bytes(self.decoder(features))

    @torch.no_grad()
    def follow_value(self, rate: float) -> None:
        """Move the slow value towards the value."""
        for slow, fast in zip(self.slow_value.parameters(), self.value.parameters(), strict=True):
            slow.lerp_(fast, rate)


def build(settings: ModelConfig, spec: Spec) -> WorldModel:
    """A new model of what ``spec`` describes; its weights follow from torch's own seed."""
    return WorldModel(settings, spec)


def build_head(config: HeadConfig, features: int, layer: Layer, absent: float) -> Head:
    if config.kind == "none":
        return Constant(absent)
    return HEADS[config.kind](features, config.layers, config.size, layer)


def refuse_infinite_weights(model: nn.Module) -> None:
    """What is not finite imagines nothing that is, and no action is better than another."""
    for name, weights in model.state_dict().items():
        broken = int((~torch.isfinite(weights)).sum())
        if broken:
            raise ValueError(
                f"weights: {name}: expected finite numbers; {broken} of {weights.numel()} are"
                " NaN or infinite"
            )
