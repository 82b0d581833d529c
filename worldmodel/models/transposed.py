"""Transposed convolutions with strides of two, in shapes that a processor is quick at.

Parameters, names and results are ``nn.ConvTranspose2d``'s; only the order of the sums differs.
"""

from __future__ import annotations

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


class Doubling(nn.ConvTranspose2d):
    """Forward as an ordinary convolution.

    Every other pixel of the result sees every other weight: four small kernels draw four images
    of half the size, which are then laced into one. The gradients are those of the transposed
    convolution, which are ordinary convolutions already.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, H, W] -> [M, D, 2 H + K - 2, 2 W + K - 2]"""
        assert self.bias is not None
        parts: list[Tensor] = [x, self.weight, self.bias]
        if torch.is_autocast_enabled(x.device.type):
            precision = torch.get_autocast_dtype(x.device.type)
            parts = [part.to(precision) for part in parts]
        drawn: Tensor = _Doubled.apply(*parts)  # type: ignore[no-untyped-call]
        return drawn


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        inputs, outputs, size, _ = weight.shape
        half = (size + 1) // 2
        even = functional.pad(weight, (0, size % 2, 0, size % 2))
        phases = even.reshape(inputs, outputs, half, 2, half, 2)
        kernel = phases.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # [4 D, C, h, h]
        four = functional.conv2d(x, kernel, bias.repeat_interleave(4), padding=half - 1)
        laced = functional.pixel_shuffle(four, 2)
        height, width = (2 * side + size - 2 for side in x.shape[2:])
        return laced[..., :height, :width]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, [weight.shape[1]],
            stride=[2, 2], padding=[0, 0], dilation=[1, 1],
            transposed=True, output_padding=[0, 0], groups=1, output_mask=ctx.needs_input_grad,
        )  # fmt: skip
        return found
