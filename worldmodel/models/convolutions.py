"""Convolutions with strides of two, in shapes that a processor is quick at.

Parameters, names and results are those of ``nn.Conv2d`` and ``nn.ConvTranspose2d``; only the order
of the sums differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FromOnePixel(nn.ConvTranspose2d):
    """Of an image that is one pixel: a single product."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, 1, 1] -> [M, D, K, K]"""
        return self._draw((x.flatten(1),))

    def after(self, start: nn.Linear, features: Tensor) -> Tensor:
        """[M, F] -> [M, D, K, K]: with nothing between, two products are one, or two in the order
        that is less work. PlaNet's 1024 numbers between 230 and 3200 take four times the work."""
        return self._draw((features, start.weight.t()), start.bias)

    def _draw(self, factors: Sequence[Tensor], offset: Tensor | None = None) -> Tensor:
        assert self.bias is not None
        inputs, outputs, *side = self.weight.shape
        kernel = self.weight.permute(2, 3, 1, 0).reshape(-1, inputs)  # [K K D, C]
        drawn: Tensor = torch.linalg.multi_dot((*factors, kernel.t()))
        bias = self.bias.repeat(side[0] * side[1])
        drawn = drawn + (bias if offset is None else bias + kernel @ offset).to(drawn)
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
        parts = _in_precision(x, self.weight, self.bias)
        padding = int(self.padding[0])
        drawn: Tensor = _Drawn.apply(self.draw, padding, *parts)  # type: ignore[no-untyped-call]
        return drawn

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return functional.conv_transpose2d(x, weight, bias, 2, padding)


class OddTransposed(Transposed):
    """With a kernel of odd size, whose bias is added apart: within, in bfloat16, it takes four
    times as long as all the rest."""

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        drawn: Tensor = functional.conv_transpose2d(x, weight, None, 2, padding)
        return drawn.add_(bias[:, None, None])


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
        kernel = phases.flip(2, 4).permute(3, 5, 1, 0, 2, 4).flatten(0, 2)  # [4 D, C, h, h]
        four = functional.conv2d(x, kernel, bias.repeat(4), padding=half - 1)
        # as it lies in memory, a pixel's channels together: half the time of a pixel_shuffle
        images, _, *side = four.shape
        laced = four.movedim(1, -1).reshape(images, *side, 2, 2, outputs).transpose(2, 3)
        laced = laced.reshape(images, 2 * side[0], 2 * side[1], outputs).movedim(-1, 1)
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


class FewWindows(nn.Conv2d):
    """Without padding, of images with few windows of many channels: its gradients are two products.

    Of PlaNet's last, four windows of 4x4x128, they take half the time of the convolution's own; 36
    windows of 4x4x64 would take longer.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, D, (H - K) / 2 + 1, (W - K) / 2 + 1]"""
        assert self.bias is not None
        parts = _in_precision(x, self.weight, self.bias)
        seen: Tensor = _Seen.apply(*parts)  # type: ignore[no-untyped-call]
        return seen


class _Seen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        outputs, inputs, size, _ = weight.shape
        gradient = gradients[0].movedim(1, -1)  # [M, Y, X, D]
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            windows = gradient @ weight.permute(0, 2, 3, 1).flatten(1)  # [M, Y, X, K K C]
            windows = windows.reshape(*windows.shape[:3], size, size, inputs)
            image = torch.zeros_like(images).movedim(1, -1)
            for y, x in product(*map(range, windows.shape[1:3])):
                rows, columns = (slice(2 * at, 2 * at + size) for at in (y, x))
                image[:, rows, columns] += windows[:, y, x]
            of_x = image.movedim(-1, 1)
        if ctx.needs_input_grad[1]:
            windows = images.movedim(1, -1).unfold(1, size, 2).unfold(2, size, 2)
            windows = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, size * size * inputs)
            kernel = gradient.flatten(0, 2).t() @ windows
            of_weight = kernel.reshape(outputs, size, size, inputs).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 1, 2))
        return of_x, of_weight, of_bias


def _in_precision(*parts: Tensor) -> tuple[Tensor, ...]:
    """As autocast does it for functions that it knows."""
    device = parts[0].device.type
    if not torch.is_autocast_enabled(device):
        return parts
    return tuple(part.to(torch.get_autocast_dtype(device)) for part in parts)
