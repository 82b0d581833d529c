"""Linear-Gaussian dynamics, fitted from rollouts under a matrix-normal inverse-Wishart prior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """A linear-Gaussian step: s' ~ N(A s + B a + o, Sigma), with matrix = [A B]."""

    matrix: Tensor  # [..., S, S + A]
    offset: Tensor  # [..., S]
    covariance: Tensor  # [..., S, S]


@dataclass(frozen=True)
class Fit:
    """What rollouts say of a step: a distribution over [A B o] and Sigma. [...] may be times.

    ::

        s' = M x + w,   x = (s, a, 1),   w ~ N(0, Sigma)
        Sigma ~ inverse-Wishart(scale, freedom),   M | Sigma ~ matrix-normal(mean, Sigma, K^-1)

    The distribution is conjugate: after rows x, s' it has the same form, with

        K' = K + sum x x'        mean' = (mean K + sum s' x') K'^-1        freedom' = freedom + rows
        scale' = scale + sum s' s'' + mean K mean' - mean' K' mean''

    where the last prime of a pair means transposed. So the prior counts like rows seen before: with
    fewer rollouts than numbers in x least squares has no one answer, and this has.
    """

    mean: Tensor  # [..., S, X] of [A B o], X = S + A + 1
    precision: Tensor  # [..., X, X] K, of the columns
    scale: Tensor  # [..., S, S] Psi
    freedom: Tensor  # [...] nu

    @classmethod
    def prior(cls, state_size: int, action_size: int) -> Fit:
        """Nothing is known, and the state stays as it is: SOLAR's Psi = I, M0 = [I 0], V = I."""
        inputs, double = state_size + action_size + 1, torch.float64
        return cls(
            mean=torch.eye(state_size, inputs, dtype=double),
            precision=torch.eye(inputs, dtype=double),
            scale=torch.eye(state_size, dtype=double),
            freedom=torch.tensor(state_size + action_size + 1, dtype=double),
        )

    def after(self, moments: Tensor, rows: Tensor | float) -> Fit:
        """The posterior after so many rows, whose ``moments_of`` are summed: [..., X + S, X + S]"""
        inputs = self.precision.shape[-1]
        of_x, cross = moments[..., :inputs, :inputs], moments[..., inputs:, :inputs]
        weighted = self.mean @ self.precision  # [..., S, X]
        precision = self.precision + of_x
        mean = torch.linalg.solve(precision, (weighted + cross).mT).mT
        scale = self.scale + moments[..., inputs:, inputs:]
        scale = scale + weighted @ self.mean.mT - mean @ precision @ mean.mT
        freedom = (self.freedom + rows).expand(mean.shape[:-2])
        return Fit(mean, precision, (scale + scale.mT) / 2, freedom)

    def at_strength(self, rows: float) -> Fit:
        """The same mean step, as sure as after ``rows`` rows, if it is surer now."""
        surplus = self.scale.shape[-1] + 1  # the freedom at which no mean of Sigma exists yet
        share = (rows / (self.freedom - surplus)).clamp(max=1.0)
        matrix_share = share[..., None, None]
        return replace(
            self,
            precision=self.precision * matrix_share,
            scale=self.scale * matrix_share,
            freedom=surplus + (self.freedom - surplus) * share,
        )

    @property
    def step(self) -> Step:
        """The mean step: the mean of [A B o], and that of Sigma, scale / (freedom - S - 1)."""
        spread = self.freedom - self.scale.shape[-1] - 1
        covariance = self.scale / spread[..., None, None]
        return Step(self.mean[..., :-1], self.mean[..., -1], covariance)


def moments_of(state: Tensor, action: Tensor, following: Tensor) -> Tensor:
    """The sum over rows of z z', z = (s, a, 1, s'): [..., N, S], [..., N, A], [..., N, S]"""
    one = torch.ones_like(state[..., :1])
    rows = torch.cat([state, action, one, following], -1).double()
    return rows.mT @ rows
