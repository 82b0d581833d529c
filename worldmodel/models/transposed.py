"""Transposed convolutions with strides of two, in shapes that a processor is quick at.

Parameters, names and results are ``nn.ConvTranspose2d``'s; only the order of the sums differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FromOnePixel(nn.ConvTranspose2d):
    """Of an image that is one pixel: a single product."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, 1, 1] -> [M, D, K, K]"""
        assert self.bias is not None
        inputs, outputs, *side = self.weight.shape
        kernel = self.weight.permute(2, 3, 1, 0).reshape(-1, inputs)  # [K K D, C]
        drawn = functional.linear(x.flatten(1), kernel, self.bias.repeat(side[0] * side[1]))
        return drawn.reshape(-1, *side, outputs).permute(0, 3, 1, 2)


class Transposed(nn.ConvTranspose2d):
    """PyTorch's own, but for the bias, whose gradient is a sum by itself: within the convolution's,
    in bfloat16, it took as long as those of weights and images together.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride=2, padding=padding)

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, H, W] -> [M, D, 2 H + K - 2 P - 2, 2 W + K - 2 P - 2]"""
        assert self.bias is not None
        parts: list[Tensor] = [x, self.weight, self.bias]
        if torch.is_autocast_enabled(x.device.type):
            precision = torch.get_autocast_dtype(x.device.type)
            parts = [part.to(precision) for part in parts]
        padding = int(self.padding[0])
        drawn: Tensor = _Drawn.apply(self.draw, padding, *parts)  # type: ignore[no-untyped-call]
        return drawn

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return functional.conv_transpose2d(x, weight, bias, 2, padding)


class Doubling(Transposed):
    """Forward as an ordinary convolution, which is quicker where there are few channels.

    Every other pixel of the result sees every other weight: four small kernels draw four images
    of half the size, which are then laced into one. The gradients are those of the transposed
    convolution, which are ordinary convolutions already.
    """

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        inputs, outputs, size, _ = weight.shape
        half = (size + 1) // 2
        even = functional.pad(weight, (0, size % 2, 0, size % 2))
        phases = even.reshape(inputs, outputs, half, 2, half, 2)
        kernel = phases.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # [4 D, C, h, h]
        four = functional.conv2d(x, kernel, bias.repeat_interleave(4), padding=half - 1)
        laced = functional.pixel_shuffle(four, 2)
        down, right = (slice(padding, 2 * side + size - 2 - padding) for side in x.shape[2:])
        return laced[..., down, right]


class _Drawn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        draw: Callable[[Tensor, Tensor, Tensor, int], Tensor],
        padding: int,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return draw(x, weight, bias, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, None,
            stride=[2, 2], padding=[ctx.padding] * 2, dilation=[1, 1],
            transposed=True, output_padding=[0, 0], groups=1, output_mask=[*wanted[:2], False],
        )  # fmt: skip
        of_bias = gradients[0].sum((0, 2, 3)) if wanted[2] else None
        return None, None, *found[:2], of_bias
