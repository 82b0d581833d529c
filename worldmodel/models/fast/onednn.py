"""Products with weights, each by the quickest of the libraries that torch holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Multiplications from which oneDNN's lead outweighs a gradient written in Python.
WORTH = 1 << 21


def has_onednn(dtype: torch.dtype) -> bool:
    """Whether torch was built with it, and it can multiply in ``dtype`` here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear(nn.Linear):
    """PyTorch's own, by ``multiplied``."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]"""
        return multiplied(x, self.weight, self.bias)


def multiplied(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What ``functional.linear`` gives, quicker where it learns in float32 on a processor.

    PyTorch leaves products in bfloat16 to oneDNN, and those in float32 to MKL, which on an AMD
    EPYC takes twice as long, for 24 rows of 512 numbers as for thousands. Without gradients there
    are few rows, or weights that are packed already.

    [..., I], [O, I], [O] -> [..., O]
    """
    if not (torch.is_grad_enabled() and _is_worth_it(x, weight)):
        return functional.linear(x, weight, bias)
    rows = x.flatten(0, -2)
    found: Tensor = _Product.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return found.reshape(*x.shape[:-1], -1)


def _is_worth_it(x: Tensor, weight: Tensor) -> bool:
    return (
        x.numel() * weight.shape[0] >= WORTH
        and x.dim() > 1  # one row is vmap's: its derivatives have derivatives
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and has_onednn(torch.float32)
    )


class _Product(torch.autograd.Function):
    """[M, I], [O, I], [O] or None -> [M, O]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.t()) if of_x else None,
            _multiply(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def packed_weight(weight: Tensor) -> Tensor:
    """[O, I] in the layout that oneDNN multiplies from."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def product_with(x: Tensor, weight: Tensor, bias: Tensor | None, after: str) -> Tensor:
    """``after(x W' + b)`` in one call: [..., I], a packed weight, [O] -> [..., O]"""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")
    return product


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = (part if _is_dense(part) else part.contiguous() for part in (x, weight))
    return product_with(x, weight, bias, "none")


def _is_dense(matrix: Tensor) -> bool:
    """Or turned: of a part of a larger one oneDNN takes a hundred times as long."""
    return matrix.is_contiguous() or matrix.t().is_contiguous()
