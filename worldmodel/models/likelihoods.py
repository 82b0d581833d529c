"""Likelihoods of images: the meaning of the numbers that a decoder gives, one class a kind.

``mean`` is the image that a decoder's numbers describe, in the units of ``Pixels``. ``error`` is
minus the log-probability of the seen image, without its constant.
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional

from worldmodel.models.fast.image_error import image_error
from worldmodel.models.pixels import Pixels

Likelihoods = Literal["gaussian", "bernoulli"]


class Likelihood(Protocol):
    def mean(self, drawn: Tensor, pixels: Pixels) -> Tensor:
        """[..., C, H, W] -> [..., C, H, W]"""

    def error(self, drawn: Tensor, target: Tensor, pixels: Pixels) -> Tensor:
        """[M, C, H, W] twice -> [M]; targets get no gradient"""


class UnitGaussian:
    """The decoder gives the mean of a Gaussian with a standard deviation of 1."""

    def mean(self, drawn: Tensor, pixels: Pixels) -> Tensor:
        return drawn

    def error(self, drawn: Tensor, target: Tensor, pixels: Pixels) -> Tensor:
        return image_error(drawn, target)


class BernoulliPixels:
    """The decoder gives logits of each colour, which is a probability between 0 and 1."""

    def mean(self, drawn: Tensor, pixels: Pixels) -> Tensor:
        return pixels.of_shares(drawn.float().sigmoid())

    def error(self, drawn: Tensor, target: Tensor, pixels: Pixels) -> Tensor:
        shares = pixels.to_shares(target).clamp(0, 1)  # noise of image_bits may leave the range
        error = functional.binary_cross_entropy_with_logits(drawn.float(), shares, reduction="none")
        return error.sum((1, 2, 3))


LIKELIHOODS: dict[Likelihoods, Likelihood] = {
    "gaussian": UnitGaussian(),
    "bernoulli": BernoulliPixels(),
}
