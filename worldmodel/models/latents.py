"""Latents: a model's state of the world at one moment, one record a kind.

Every tensor has its leading axes first ([], [B], [B, T], [B, N, L]); functions over these axes are
in ``structs``. Only the dynamics that made a latent reads its fields. Everyone else reads its
``features``, its ``shape`` (the leading axes) and its ``distribution``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Point:
    """A deterministic latent: a vector without a distribution."""

    z: Tensor  # [..., S]

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.z

    @property
    def shape(self) -> torch.Size:
        return self.z.shape[:-1]

    @property
    def distribution(self) -> None:
        return None


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian and a sample from it; it is its own ``distribution``."""

    mean: Tensor  # [..., S]
    std: Tensor  # [..., S]
    sample: Tensor  # [..., S] the mean itself if no noise was given

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.sample

    @property
    def shape(self) -> torch.Size:
        return self.mean.shape[:-1]

    @property
    def distribution(self) -> Gaussian:
        return self

    def divergence(self, prior: Gaussian | Affine | Correlated) -> Tensor:
        """KL(self || prior), summed over S: [...]"""
        if not isinstance(prior, Gaussian):
            return prior.divergence_from(self)
        ratio = (self.std / prior.std).square()
        distance = ((self.mean - prior.mean) / prior.std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def draw_gaussian(mean: Tensor, std: Tensor, noise: Tensor | None) -> Gaussian:
    """A Gaussian and its sample; ``noise`` is standard normal [..., S], None takes the mean."""
    return Gaussian(mean, std, mean if noise is None else mean + std * noise)


def gaussian_of(statistics: Tensor, min_std: float, noise: Tensor | None) -> Gaussian:
    """A Gaussian from a network's numbers, mean and raw std [..., 2 S]."""
    mean, raw = statistics.chunk(2, -1)
    # softplus of a copy: of the view, with 1000 latents of 30 numbers, takes 15 times as long
    std = functional.softplus(raw.contiguous()) + min_std
    return draw_gaussian(mean, std, noise)


@dataclass(frozen=True)
class Affine:
    """A diagonal Gaussian after a linear step with the matrix A = I + v r': Embed to Control's.

    Its covariance is A S A', where S is diagonal with the square of ``before``.
    """

    mean: Tensor  # [..., S] after the step
    before: Tensor  # [..., S] the standard deviations before the step
    sample: Tensor  # [..., S] after the step
    v: Tensor  # [..., S]
    r: Tensor  # [..., S]

    @property
    def std(self) -> Tensor:
        """[..., S] the standard deviation of each number by itself, the root of diag(A S A')"""
        variance = self.before.square()
        along = (self.r.square() * variance).sum(-1, keepdim=True)
        own = variance * (1 + 2 * self.v * self.r) + self.v.square() * along
        return own.clamp(min=TINY).sqrt()

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.sample

    @property
    def shape(self) -> torch.Size:
        return self.mean.shape[:-1]

    @property
    def distribution(self) -> Affine:
        return self

    def divergence(self, prior: Gaussian) -> Tensor:
        """KL(self || prior) for a diagonal prior: [...]

        det A = 1 + v'r may be negative, so its absolute value is in the logarithm.
        """
        variance, wanted = self.before.square(), prior.std.square()
        v, r = self.v, self.r
        spread = (variance * (1 + 2 * v * r) / wanted).sum(-1)
        along = (v.square() / wanted).sum(-1) * (r.square() * variance).sum(-1)
        distance = ((self.mean - prior.mean).square() / wanted).sum(-1)
        volumes = (prior.std.log() - self.before.log()).sum(-1)
        grown = determinant(v, r).abs().clamp(min=TINY).log()
        return 0.5 * (spread + along + distance - v.shape[-1]) + volumes - grown

    def divergence_from(self, posterior: Gaussian) -> Tensor:
        """KL(posterior || self) for a diagonal posterior: [...]

        Both are taken back by A^-1 = I - v r' / (1 + v'r), which changes no divergence.
        """
        inner = determinant(self.v, self.r)
        inner = torch.where(inner < 0, inner.clamp(max=-TINY), inner.clamp(min=TINY))
        back = -self.v / inner[..., None]
        apart = after_step(posterior.mean - self.mean, back, self.r)
        returned = Affine(apart, posterior.std, apart, back, self.r)
        zero = torch.zeros_like(apart)
        return returned.divergence(Gaussian(zero, self.before, zero))


@dataclass(frozen=True)
class Categorical:
    """G independent choices of one of K classes each, one-hot; it is its own ``distribution``.

    Forwards the sample is the drawn classes, backwards it is the probabilities (straight-through):
    so the loss of an image reaches the network that gave the probabilities.
    """

    log_probabilities: Tensor  # [..., G, K]
    sample: Tensor  # [..., G, K] the most likely classes if no noise was given

    @property
    def features(self) -> Tensor:
        """[..., G K]"""
        return self.sample.flatten(-2)

    @property
    def shape(self) -> torch.Size:
        return self.sample.shape[:-2]

    @property
    def distribution(self) -> Categorical:
        return self

    def divergence(self, prior: Categorical) -> Tensor:
        """KL(self || prior), summed over G: [...]"""
        apart = self.log_probabilities - prior.log_probabilities
        return (self.log_probabilities.exp() * apart).sum((-2, -1))


# DreamerV3's share of the uniform distribution in each categorical one, so that no class becomes
# impossible and no divergence infinite.
EVEN_SHARE = 0.01


def categorical_of(logits: Tensor, noise: Tensor | None) -> Categorical:
    """Categoricals from a network's logits [..., G, K] and standard normal noise [..., G].

    A normal number becomes a uniform one through the normal distribution function, which then
    picks the class on whose part of the unit interval it lies. None takes the most likely class.
    """
    even = EVEN_SHARE / logits.shape[-1]
    probabilities = (1 - EVEN_SHARE) * logits.float().softmax(-1) + even  # [..., G, K]
    if noise is None:
        place = probabilities.argmax(-1)
    else:
        uniform = torch.special.ndtr(noise.float())[..., None]  # [..., G, 1]
        # without the last sum, which rounding may leave below the largest uniform number
        place = (probabilities.cumsum(-1)[..., :-1] < uniform).sum(-1)
    drawn = functional.one_hot(place, logits.shape[-1]).to(probabilities)
    sample = drawn + (probabilities - probabilities.detach())
    return Categorical(probabilities.log(), sample)


# The smallest variance, and the smallest |det A|: a logarithm of zero would be infinite.
TINY = 1e-8


def determinant(v: Tensor, r: Tensor) -> Tensor:
    """det(I + v r') = 1 + v'r: [..., S] twice -> [...]"""
    return 1 + (v * r).sum(-1)


def after_step(x: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """(I + v r') x: [..., S] three times -> [..., S]"""
    return x + v * (r * x).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Correlated:
    """A Gaussian whose numbers vary together, with covariance L L', and a sample from it."""

    mean: Tensor  # [..., S]
    factor: Tensor  # [..., S, S] L, which is lower triangular
    sample: Tensor  # [..., S]

    @property
    def std(self) -> Tensor:
        """[..., S] the standard deviation of each number by itself"""
        variance: Tensor = self.factor.square().sum(-1)
        return variance.sqrt()

    def divergence_from(self, posterior: Gaussian) -> Tensor:
        """KL(posterior || self) for a diagonal posterior: [...]"""
        apart = (posterior.mean - self.mean)[..., None]
        columns = torch.cat([torch.diag_embed(posterior.std), apart], -1)  # [..., S, S + 1]
        whitened = torch.linalg.solve_triangular(self.factor, columns, upper=False)
        volumes = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - posterior.std.log().sum(-1)
        distance: Tensor = whitened.square().sum((-1, -2))
        return 0.5 * (distance - apart.shape[-2]) + volumes


@dataclass(frozen=True)
class Timed:
    """A Gaussian, and how many rows were observed before it: policies may change over time.

    Heads, decoders and goals read the state alone.
    """

    row: Tensor  # [...] int: 0 in the first row that is observed
    state: Gaussian | Correlated

    @property
    def features(self) -> Tensor:
        """[..., S]"""
        return self.state.sample

    @property
    def shape(self) -> torch.Size:
        return self.row.shape

    @property
    def distribution(self) -> Gaussian | Correlated:
        return self.state


@dataclass(frozen=True)
class Remembered:
    """A deterministic, recurrent part and a random part: PlaNet's and Dreamer's latent.

    The order of the features is decided only here: the deterministic part, then the random one.
    """

    deter: Tensor  # [..., D]
    stoch: Gaussian | Categorical | Point  # a Point in plans, which need no standard deviation

    @property
    def features(self) -> Tensor:
        """[..., D + S]"""
        return torch.cat([self.deter, self.stoch.features], -1)

    @property
    def shape(self) -> torch.Size:
        return self.deter.shape[:-1]

    @property
    def distribution(self) -> Gaussian | Categorical | None:
        return self.stoch.distribution


@dataclass(frozen=True)
class Scene:
    """A latent in image space: a picture, a memory of earlier ones, and maps of marked pixels.

    A mark is a pixel that somebody follows: a probability map, which sums to one.
    """

    image: Tensor  # [..., C, H, W]
    memory: Tensor  # [..., M, h, w]
    marks: Tensor  # [..., Q, H, W] Q may be 0

    @property
    def features(self) -> Tensor:
        """[..., M] the memory, averaged over space"""
        return self.memory.mean((-1, -2))

    @property
    def shape(self) -> torch.Size:
        return self.image.shape[:-3]

    @property
    def distribution(self) -> None:
        return None

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.image, self.memory, self.marks
