"""The logarithm of the normal distribution function, from operators that ONNX has."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# erfc(z) = t exp(-z^2 + p(t)) with t = 1 / (1 + z / 2), z >= 0, to 1.2e-7 of its value:
# Press et al., Numerical Recipes, section 6.2 (erfcc). The highest power first.
ERFC = (
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807),
    *(-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223),
)


def log_normal_cdf(x: Tensor) -> Tensor:
    """log Phi(x), as ``torch.special.log_ndtr`` computes it in float32."""
    z = x.abs() * math.sqrt(0.5)
    t = 1 / (1 + 0.5 * z)
    polynomial = torch.full_like(t, ERFC[0])
    for factor in ERFC[1:]:
        polynomial = polynomial * t + factor
    log_tail = torch.log(0.5 * t) - z.square() + polynomial  # log Phi(-|x|)
    return torch.where(x < 0, log_tail, _log1p(-log_tail.exp()))


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x), corrected for what the sum loses of a small x (Kahan)."""
    total = 1 + x
    kept = total - 1
    is_lost = kept == 0
    return torch.where(is_lost, x, x * total.log() / torch.where(is_lost, 1.0, kept))
