"""Dense products by oneDNN, where it is the fastest of the libraries inside torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# The number of multiplications from which oneDNN saves more time than the gradient in Python costs.
WORTH = 1 << 21


def has_onednn(dtype: torch.dtype) -> bool:
    """Whether torch was built with oneDNN, and oneDNN can multiply in ``dtype`` on this machine."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear(nn.Linear):
    """PyTorch's dense layer, computed by ``multiplied``."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]"""
        return multiplied(x, self.weight, self.bias)


def multiplied(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``functional.linear``, faster when gradients are computed in float32 on a processor.

    PyTorch leaves products in bfloat16 to oneDNN, and those in float32 to MKL, which takes twice as
    long on an AMD EPYC, for 24 inputs of 512 numbers and for thousands alike. Without gradients the
    inputs are few, or the weights are packed already.

    [..., I], [O, I], [O] -> [..., O]
    """
    if not (torch.is_grad_enabled() and _is_worth_it(x, weight)):
        return functional.linear(x, weight, bias)
    product: Tensor = _Product.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    return product.reshape(*x.shape[:-1], -1)


def _is_worth_it(x: Tensor, weight: Tensor) -> bool:
    return (
        x.numel() * weight.shape[0] >= WORTH
        and x.dim() > 1  # a single input comes from vmap, which differentiates twice
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
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.t()) if needs_x else None,
            _multiply(gradient.t(), x.t()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def packed_weight(weight: Tensor) -> Tensor:
    """[O, I] in the memory layout that oneDNN multiplies from."""
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
    """Whether a matrix or its transpose is contiguous.

    With a slice of a larger matrix oneDNN takes a hundred times as long.
    """
    return matrix.is_contiguous() or matrix.t().is_contiguous()
