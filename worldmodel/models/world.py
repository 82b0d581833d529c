"""The world model: its parts under two verbs, *observe* (with images) and *imagine* (without)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from worldmodel.config import HeadConfig, ModelConfig
from worldmodel.models.decoder import PlanetDecoder, SlimDecoder
from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models.encoder import PlanetEncoder, SlimEncoder
from worldmodel.models.heads import Bernoulli, Constant, Head, Normal, TwoHot
from worldmodel.models.layers import GRUCell, Layer, NormedGRUCell, normed, plain
from worldmodel.models.pixels import Pixels
from worldmodel.models.policy import Policy
from worldmodel.structs import Latent

ENCODERS: dict[str, type[SlimEncoder] | type[PlanetEncoder]] = {
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

    def __init__(
        self, config: ModelConfig, image_size: int, channels: int, action_size: int
    ) -> None:
        super().__init__()
        self.action_size = action_size
        self.image_shape = (image_size, image_size, channels)
        layer = LAYERS[config.dynamics.layers]
        sizes = config.dynamics
        self.pixels = Pixels(image_size, channels, config.image_bits)
        self.encoder = ENCODERS[config.encoder.kind](image_size, channels, config.encoder.width)
        self.dynamics = Recurrent(
            action_size=action_size,
            embed_size=self.encoder.embed_size,
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
        self.policy = (
            Policy(features, action_size, config.policy.layers, config.policy.size, layer)
            if config.policy.kind != "none"
            else None
        )

    def embed(self, image: Tensor) -> Tensor:
        """[..., H, W, C] uint8 -> [..., E]"""
        embed: Tensor = self.encoder(self.pixels(image))
        return embed

    def observe_step(self, latent: Latent, action: Tensor, image: Tensor) -> Latent:
        """What is believed after an action and an image; follows the mean."""
        return self.dynamics.observe_step(latent, action, self.embed(image).float(), None)

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


def build_head(config: HeadConfig, features: int, layer: Layer, absent: float) -> Head:
    if config.kind == "none":
        return Constant(absent)
    return HEADS[config.kind](features, config.layers, config.size, layer)
