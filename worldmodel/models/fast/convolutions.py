"""Convolutions with strides, in shapes that a processor is quick at.

Parameters, names and results are those of ``nn.Conv2d`` and ``nn.ConvTranspose2d``; only the order
of the sums differs.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FromOnePixel(nn.ConvTranspose2d):
    """Of an image that is one pixel: a single product."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, 1, 1] -> [M, D, K, K]"""
        return self._draw(x.flatten(1), self.weight, torch.zeros((), device=x.device))

    def after(self, start: nn.Linear, features: Tensor) -> Tensor:
        """[M, F] -> [M, D, K, K]: with nothing between, two products are one. PlaNet's 1024 numbers
        between 230 and 3200 would take four times the work."""
        kernel, shape = self.weight.flatten(1), self.weight.shape[1:]
        joined = (start.weight.t() @ kernel).reshape(-1, *shape)
        return self._draw(features, joined, (start.bias @ kernel).reshape(shape))

    def _draw(self, x: Tensor, kernel: Tensor, offset: Tensor) -> Tensor:
        """[M, F], [F, D, K, K], [D, K, K] -> [M, D, K, K]"""
        assert self.bias is not None
        _, outputs, *side = kernel.shape
        bias = (offset + self.bias[:, None, None]).expand(outputs, *side)
        # a pixel's channels together, as convolutions want them: the kernel is smaller than images
        drawn = functional.linear(
            x, kernel.permute(2, 3, 1, 0).flatten(0, 2), bias.permute(1, 2, 0).flatten()
        )
        return drawn.reshape(-1, *side, outputs).permute(0, 3, 1, 2)


class Transposed(nn.ConvTranspose2d):
    """PyTorch's own, but for the bias, whose gradient is a sum by itself: within the convolution's,
    in bfloat16, it took as long as those of weights and images together.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride=2, padding=padding)

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, H, W] -> [M, D, 2 H + K - 2 P - 2, 2 W + K - 2 P - 2]"""
        return _applied(self, x)

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return functional.conv_transpose2d(x, weight, bias, 2, padding)

    @staticmethod
    def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _pytorchs_gradient(gradient, x, weight, padding, transposed=True, of=1)

    @staticmethod
    def image_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _pytorchs_gradient(gradient, x, weight, padding, transposed=True, of=0)


class FewPixels(Transposed):
    """Of images with few pixels of many channels: the gradient of its weights is a product of
    windows, in six tenths of the time. Its bias is added apart: within, in bfloat16, with a kernel
    of odd size, it takes four times as long as all the rest.
    """

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        drawn: Tensor = functional.conv_transpose2d(x, weight, None, 2, padding)
        return drawn.add_(bias[:, None, None])

    @staticmethod
    def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _sum_of_windows(x, functional.pad(gradient, [padding] * 4), weight.shape[-1])


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


class Windowed(nn.Conv2d):
    """Without padding; the gradient of its weights is a product of windows.

    Of PlaNet's third, 36 windows of 4x4x64, it takes seven tenths of the time of PyTorch's own; of
    its second, 196 of 4x4x32, longer (assets/bench/convolution_gradients.csv).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, D, (H - K) / 2 + 1, (W - K) / 2 + 1]"""
        return _applied(self, x)

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return functional.conv2d(x, weight, bias, 2, padding)

    @staticmethod
    def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _sum_of_windows(gradient, x, weight.shape[-1])

    @staticmethod
    def image_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _pytorchs_gradient(gradient, x, weight, padding, transposed=False, of=0)


class FewWindows(Windowed):
    """Of images with few windows of many channels: a product of windows, whatever is asked.

    Of PlaNet's last, four windows of 4x4x128, it takes half the time; of 36 windows, longer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, D, (H - K) / 2 + 1, (W - K) / 2 + 1]"""
        windows: Tensor = _Windows.apply(x, self.kernel_size[0])  # type: ignore[no-untyped-call]
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(windows, kernel, self.bias).movedim(-1, 1)


class Patches(nn.Conv2d):
    """Of images in float32, in patches that do not overlap; so are its weights' gradients found.

    In bfloat16, of three channels, they take twice as long, and the images are there anyway.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, stride=size)

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, D, H / K, W / K]"""
        drawn: Tensor = _Patched.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return drawn


class _Patched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, weight.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            gradients[0].to(weight), x.to(weight), weight, [len(weight)],
            stride=weight.shape[2:], padding=[0, 0], dilation=[1, 1],
            transposed=False, output_padding=[0, 0], groups=1, output_mask=ctx.needs_input_grad,
        )  # fmt: skip
        return found


def _applied(layer: Transposed | Windowed, x: Tensor) -> Tensor:
    assert layer.bias is not None
    parts = [x, layer.weight, layer.bias]
    device = x.device.type
    if torch.is_autocast_enabled(device):  # as it does it for functions that it knows
        parts = [part.to(torch.get_autocast_dtype(device)) for part in parts]
    drawn: Tensor = _Strided.apply(  # type: ignore[no-untyped-call]
        type(layer), int(layer.padding[0]), *parts
    )
    return drawn


class _Strided(torch.autograd.Function):
    """Each gradient by itself, in the way that its layer knows."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: type[Transposed] | type[Windowed],
        padding: int,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.padding = layer, padding
        return layer.draw(x, weight, bias, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _, _, of_x, of_weight, of_bias = ctx.needs_input_grad
        parts = (gradients[0], *ctx.saved_tensors, ctx.padding)
        return (
            None,
            None,
            ctx.layer.image_gradient(*parts) if of_x else None,
            ctx.layer.weight_gradient(*parts) if of_weight else None,
            gradients[0].sum((0, 2, 3)) if of_bias else None,
        )


def _pytorchs_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: int, *, transposed: bool, of: int
) -> Tensor:
    """PyTorch's ``of`` 0, the images, or 1, the weights."""
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None,
        stride=[2, 2], padding=[padding] * 2, dilation=[1, 1],
        transposed=transposed, output_padding=[0, 0], groups=1,
        output_mask=[of == 0, of == 1, False],
    )  # fmt: skip
    return found[of]


AT_ONCE = 50  # images whose windows stay in a processor's cache


def _sum_of_windows(pixels: Tensor, images: Tensor, size: int) -> Tensor:
    """Pixels times the windows that they see: [M, C, Y, X], [M, D, H, W] -> [C, D, K, K]"""
    outputs, inputs = pixels.shape[1], images.shape[1]
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    total = pixels.new_zeros(outputs, size * size * inputs, dtype=dtype)
    for some, seen in zip(torch.split(pixels, AT_ONCE), torch.split(images, AT_ONCE), strict=True):
        total += some.movedim(1, -1).flatten(0, 2).t() @ _windows(seen, size).flatten(0, 2)
    return total.to(pixels.dtype).reshape(outputs, size, size, inputs).permute(0, 3, 1, 2)


def _windows(images: Tensor, size: int) -> Tensor:
    """Every other window, as it lies in memory: [M, C, H, W] -> [M, Y, X, K K C]"""
    windows = images.movedim(1, -1).unfold(1, size, 2).unfold(2, size, 2)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


class _Windows(torch.autograd.Function):
    """PyTorch's own gradient of them takes many times as long."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, size: int) -> Tensor:
        ctx.shape, ctx.size = images.shape, size
        return _windows(images, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        images, channels, *sides = ctx.shape
        image = gradients[0].new_zeros(images, *sides, channels)
        windows = gradients[0].reshape(*gradients[0].shape[:3], ctx.size, ctx.size, channels)
        for y, x in product(*map(range, windows.shape[1:3])):
            rows, columns = (slice(2 * at, 2 * at + ctx.size) for at in (y, x))
            image[:, rows, columns] += windows[:, y, x]
        return image.movedim(-1, 1), None
