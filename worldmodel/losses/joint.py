"""The bound that trains the world model: draw the image, name the reward, expect what comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import ObjectiveConfig
from worldmodel.models import WorldModel
from worldmodel.structs import Batch, Latent, at, each, flatten


def joint_terms(
    model: WorldModel,
    batch: Batch,
    config: ObjectiveConfig,
    generator: torch.Generator,
    precision: Callable[[], AbstractContextManager[None]],
) -> tuple[dict[str, Tensor], Latent]:
    """Every term [B, T], weighted, lower is better; and the posterior [B, T].

    ``precision`` surrounds convolutions and heads; the sequence itself stays in float32.
    """
    seen = model.infer(batch, generator, precision)
    posterior, pixels = seen.posterior, seen.pixels
    device = batch.action.device
    rows, steps = batch.action.shape[:2]
    with precision():
        paid = model.reward.log_prob(posterior.features, batch.reward)
        goes_on = model.discount.log_prob(posterior.features, batch.discount)
    terms = {
        **kl_terms(posterior, seen.prior, config),
        "reward": -config.reward * paid,
        "discount": -config.discount * goes_on,
    }

    drawn_from, target = flatten(posterior), pixels.flatten(0, 1)
    count = max(1, round(config.decoded_share * rows * steps))
    chosen = torch.arange(rows * steps, device=device)
    if count < rows * steps:  # a share, drawn anew each time: the same gradient on average
        chosen = torch.randperm(rows * steps, generator=generator, device=device)[:count]
        drawn_from, target = at(drawn_from, chosen), target[chosen]
    with precision():
        drawn = model.draw(drawn_from)
    error = image_error(drawn, target)  # [chosen]
    image = torch.zeros(rows * steps, device=device)
    image = image.index_put((chosen,), error * (config.image * rows * steps / count))
    terms["image"] = image.reshape(rows, steps)
    if model.vectors is not None:
        felt = model.vectors.log_prob(posterior.features, batch.vectors)
        terms["vectors"] = -config.vectors * felt
    return terms, posterior


def image_error(drawn: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance of each image from its target: [M, C, H, W] twice -> [M]

    A target is what was seen: it has no gradient.
    """
    error: Tensor = _ImageError.apply(drawn, target)  # type: ignore[no-untyped-call]
    return error


class _ImageError(torch.autograd.Function):
    """In five passes over the pixels; autograd's own takes nine or so."""

    @staticmethod
    def forward(ctx: Any, drawn: Tensor, target: Tensor) -> Tensor:
        away = drawn.to(target.dtype, copy=True).sub_(target)
        ctx.save_for_backward(away)
        ctx.dtype = drawn.dtype
        distance: Tensor = torch.linalg.vector_norm(away, dim=(1, 2, 3))
        return 0.5 * distance.square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (away,) = ctx.saved_tensors
        return (away * gradients[0][:, None, None, None]).to(ctx.dtype), None


def kl_terms(posterior: Latent, prior: Latent, config: ObjectiveConfig) -> dict[str, Tensor]:
    """Balanced: the prior is pulled harder than the posterior; a few nats are free for each."""
    here, expected = posterior.distribution, prior.distribution
    assert here is not None
    assert expected is not None
    dynamics = each(here, Tensor.detach).divergence(expected)
    representation = here.divergence(each(expected, Tensor.detach))
    return {
        "kl_dynamics": config.kl_dynamics * dynamics.clamp(min=config.free_nats),
        "kl_representation": config.kl_representation * representation.clamp(min=config.free_nats),
    }


def mean_over_valid(term: Tensor, valid: Tensor) -> Tensor:
    """[B, T] -> []; padding does not count."""
    return (term * valid).sum() / valid.sum()
