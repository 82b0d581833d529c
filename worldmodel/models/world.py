"""The world model: all learned parts; it *observes* with images and *imagines* without."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.checks import require
from worldmodel.models.dynamics import Context, Dynamics, Fitted
from worldmodel.models.encoders import scale_weights
from worldmodel.models.encoders.vectors import EMBED_SIZE, Vectors
from worldmodel.models.heads import Constant, Head, HeadSettings
from worldmodel.models.layers import Layer, layer_of
from worldmodel.models.likelihoods import LIKELIHOODS
from worldmodel.models.pixels import Pixels
from worldmodel.models.posteriors import Posterior
from worldmodel.models.roll import follow_images, given, roll
from worldmodel.models.settings import ModelSettings
from worldmodel.structs import Batch, Latent, Spec


class WorldModel(nn.Module):
    """All learned parts as one module. It holds parameters only: the caller keeps the belief."""

    def __init__(self, config: ModelSettings, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        image_size, _, channels = spec.image
        action_size, vectors = spec.action_size, spec.vectors
        layer = layer_of(config.layers)
        self.pixels = Pixels(image_size, channels, config.image_bits)
        self.encoder = config.encoder.build(image_size, channels)
        scale_weights(self.encoder, config.encoder_gain)
        embed_size = self.encoder.embed_size + (EMBED_SIZE if vectors else 0)
        self.dynamics: Dynamics[Any] = config.dynamics.build(action_size, config.layers, spec.image)
        self.posterior: Posterior = config.posterior.build(
            self.dynamics.context_size,
            embed_size,
            action_size,
            self.dynamics.statistics_size,
            config.layers,
        )
        features = self.dynamics.feature_size
        self.decoder = (
            None if config.decoder is None else config.decoder.build(features, image_size, channels)
        )
        self.likelihood = LIKELIHOODS[config.likelihood]
        self.reward = build_head(config.reward, features, layer, absent=0.0)
        self.discount = build_head(config.discount, features, layer, absent=1.0)
        self.value = build_head(config.value, features, layer, absent=0.0)
        self.slow_value = copy.deepcopy(self.value).requires_grad_(False)
        self.policy = (
            config.policy.build(features, action_size, spec.has_choices, layer)
            if config.policy is not None
            else None
        )
        self.vectors = Vectors(features, vectors, layer) if vectors else None
        self.contrast = (
            None
            if config.contrast is None
            else config.contrast.build(features, self.encoder, layer)
        )
        self.ensemble = (
            None if config.ensemble is None else config.ensemble.build(features, embed_size, layer)
        )

    def embed(self, image: Tensor, vectors: Mapping[str, Tensor] | None = None) -> Tensor:
        """[..., H, W, C] uint8, name -> [..., V] -> [..., E]"""
        return self.join(self.encoder(self.pixels(image)), vectors or {})

    def join(self, embed: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """Concatenate the embeddings of the image and of the vectors: [..., E]"""
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
        """The posterior after an action and an image: [B]; without noise it takes the mean."""
        embed = self.encoder(self.pixels(image)).float()
        if self.vectors is not None:
            embed = self.join(embed, vectors or {})
        acting = self.posterior.acting
        assert acting is not None  # an agent refuses such a model
        now = torch.ones_like(action[:, :1], dtype=torch.bool)  # [B, 1]
        evidence = acting.evidence(embed[:, None], action[:, None], now)[:, 0]
        context = self.dynamics.remember(latent, action)
        believed: Latent = self.dynamics.believe(context, acting.correct(context, evidence), noise)
        return believed

    def observe(
        self, actions: Tensor, embeds: Tensor, valid: Tensor, noise: Tensor | None
    ) -> tuple[Context, Latent]:
        """Observe windows from their first row: [B, T, A], [B, T, E], [B, T], [B, T, S] or None.

        Returns each row's context, which is what the past says of it, and the posterior: [B, T].
        Without noise it takes the mean.
        """
        return self.follow(self.posterior, actions, embeds, valid, noise)

    def beliefs(self, actions: Tensor, embeds: Tensor, valid: Tensor) -> Latent:
        """The beliefs that an agent has along windows, by their means: [B, T]

        No belief reads a later image: a smoother's filter acts, not the smoother.
        """
        acting = self.posterior.acting
        assert acting is not None  # an agent refuses such a model
        return self.follow(acting, actions, embeds, valid, None)[1]

    def follow(
        self,
        posterior: Posterior,
        actions: Tensor,
        embeds: Tensor,
        valid: Tensor,
        noise: Tensor | None,
    ) -> tuple[Context, Latent]:
        """As ``observe``, by a posterior that is given, such as an older copy of the model's."""
        evidence = posterior.evidence(embeds, actions, valid)
        begin = self.dynamics.initial(actions.shape[0])
        return follow_images(self.dynamics, posterior, begin, actions, evidence, noise)

    def infer(
        self,
        batch: Batch,
        random: torch.Generator,
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Inference:
        """Posterior and prior of a batch: computed once, for all terms of the objective.

        The encoder runs under ``precision``; the loop over time stays in float32.
        """
        device = batch.action.device
        windows, length = batch.action.shape[:2]
        pixels = self.pixels(batch.image)  # [B, T, C, H, W]
        if self.pixels.bits < 8:
            pixels = self.pixels.dither(pixels, random)
        with precision():
            embed = self.encoder(pixels).float()
        embed = self.join(embed, batch.vectors)
        shape = (windows, length, self.dynamics.noise_size)
        noise = torch.randn(shape, generator=random, device=device)
        contexts, posterior = self.observe(batch.action, embed, batch.valid, noise)
        return Inference(
            batch,
            pixels,
            embed,
            posterior,
            prior=self.dynamics.imagine(contexts, None),
            follows=batch.valid & (torch.arange(length, device=device) > 0),
        )

    def imagine(self, latent: Latent, actions: Tensor, noise: Tensor | None) -> Latent:
        """No images: latent [...], actions [..., L, A], noise [..., L, S] or None -> [..., L]"""
        return roll(self.dynamics, latent, given(actions), actions.shape[-2], noise)[1]

    def draw(self, latent: Latent) -> Tensor:
        """[...] -> the image's mean [..., C, H, W]"""
        return self.likelihood.mean(self._drawn(latent), self.pixels)

    def image_error(self, latent: Latent, target: Tensor) -> Tensor:
        """Minus the log-probability of images, without its constant: [M], [M, C, H, W] -> [M]"""
        return self.likelihood.error(self._drawn(latent), target, self.pixels)

    def _drawn(self, latent: Latent) -> Tensor:
        """[...] -> the decoder's numbers [..., C, H, W]"""
        self.require_decoder()
        assert self.decoder is not None
        drawn: Tensor = self.decoder(latent)
        return drawn

    def require_decoder(self) -> None:
        """Raise if the model draws no images."""
        require(
            self.decoder is not None,
            "model.decoder: none, so this model draws no images to look at; it can be evaluated and"
            " played, and reports, figures and dreams need one that was trained with"
            " model.decoder.kind: slim and objective.image.weight: 1.0",
        )

    def decode(self, latent: Latent) -> Tensor:
        """[...] -> [..., H, W, C] uint8"""
        return self.pixels.to_bytes(self.draw(latent))

    def fit(self, images: Tensor) -> None:
        """Set the pixels' mean and scale, which no gradient reaches, from [M, H, W, C] bytes."""
        self.pixels.fit(images)

    @torch.no_grad()
    def stepped(self, seen: Inference) -> None:
        """Called after each step of the optimizer, with its batch, for parts without a gradient.

        The slow encoder of a contrast follows, and dynamics that are fitted absorb the batch.
        """
        if self.contrast is not None:
            self.contrast.follow(self.encoder)
        if isinstance(self.dynamics, Fitted):
            self.dynamics.absorb(seen.posterior.features, seen.batch.action, seen.follows)

    @torch.no_grad()
    def follow_value(self, rate: float) -> None:
        """Move the slow value towards the value."""
        for slow, fast in zip(self.slow_value.parameters(), self.value.parameters(), strict=True):
            slow.lerp_(fast, rate)


@dataclass(frozen=True)
class Inference:
    """A batch of windows with its posterior and prior latents."""

    batch: Batch
    pixels: Tensor  # [B, T, C, H, W] what the decoder should draw; for a behaviour empty: [0]
    embeds: Tensor  # [B, T, E] of image and vectors
    posterior: Latent  # [B, T]
    prior: Latent  # [B, T] of the same rows, without their images
    follows: Tensor  # [B, T] bool: valid, and not the first row of its window


def build(settings: ModelSettings, spec: Spec) -> WorldModel:
    """A new model of an environment with this ``spec``; torch's seed decides its weights."""
    return WorldModel(settings, spec)


def build_head(settings: HeadSettings | None, features: int, layer: Layer, absent: float) -> Head:
    """The head that the settings describe; without settings, the constant ``absent``."""
    return Constant(absent) if settings is None else settings.build(features, layer)


def refuse_infinite_weights(model: nn.Module) -> None:
    """Raise if a weight is NaN or infinite.

    Every imagined return would be NaN, and no action could be ranked.
    """
    for name, weights in model.state_dict().items():
        broken = int((~torch.isfinite(weights)).sum())
        if broken:
            raise ValueError(
                f"weights: {name}: expected finite numbers; {broken} of {weights.numel()} are"
                " NaN or infinite"
            )
