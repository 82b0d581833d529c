"""Convolutions with strides, computed as products that are fast on a processor.

Parameters, their names and the results are those of ``nn.Conv2d`` and ``nn.ConvTranspose2d``; only
the order of the sums differs.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class FromOnePixel(nn.ConvTranspose2d):
    """A transposed convolution of images of one pixel: a single product."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """[M, C, 1, 1] -> [M, D, K, K]"""
        return self._draw(x.flatten(1), self.weight, torch.zeros((), device=x.device))

    def after(self, start: nn.Linear, features: Tensor) -> Tensor:
        """This layer after the dense layer ``start``, as one product: [M, F] -> [M, D, K, K].

        No activation is between them. PlaNet's 230 features and 3200 outputs have 1024 numbers
        between them, and two products would take four times the work.
        """
        kernel, shape = self.weight.flatten(1), self.weight.shape[1:]
        joined = (start.weight.t() @ kernel).reshape(-1, *shape)
        return self._draw(features, joined, (start.bias @ kernel).reshape(shape))

    def _draw(self, x: Tensor, kernel: Tensor, offset: Tensor) -> Tensor:
        """[M, F], [F, D, K, K], [D, K, K] -> [M, D, K, K]"""
        assert self.bias is not None
        _, outputs, *side = kernel.shape
        bias = (offset + self.bias[:, None, None]).expand(outputs, *side)
        # Convolutions want the channels of a pixel next to each other in memory. The kernel is
        # reordered, not the images, because it is smaller.
        by_pixel = rearrange(kernel, "f d k l -> (k l d) f")
        drawn = functional.linear(x, by_pixel, rearrange(bias, "d k l -> (k l d)"))
        return rearrange(drawn, "m (k l d) -> m d k l", k=side[0], l=side[1])


class Transposed(nn.ConvTranspose2d):
    """A transposed convolution that computes the gradient of its bias as a sum of its own.

    As a part of PyTorch's convolution, in bfloat16, that gradient took as long as those of weights
    and images together.
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
    """A transposed convolution of images with few pixels of many channels.

    The gradient of its weights is a product of windows, in six tenths of the time of PyTorch's. The
    bias is added after the convolution: as a part of it, in bfloat16, with a kernel of odd size, it
    takes four times as long as all the rest.
    """

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        drawn: Tensor = functional.conv_transpose2d(x, weight, None, 2, padding)
        return drawn.add_(bias[:, None, None])

    @staticmethod
    def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return _sum_of_windows(x, functional.pad(gradient, [padding] * 4), weight.shape[-1])


class Doubling(Transposed):
    """A transposed convolution whose forward pass is an ordinary one, faster with few channels.

    Every other pixel of the result depends on every other weight. So four small kernels draw four
    images of half the size, which are then interleaved to one. The gradients are those of the
    transposed convolution, which are ordinary convolutions already.
    """

    @staticmethod
    def draw(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        size = weight.shape[-1]
        half = (size + 1) // 2
        even = functional.pad(weight, (0, size % 2, 0, size % 2))
        phases = rearrange(even, "c d (h p) (w q) -> p q d c h w", p=2, q=2).flip(4, 5)
        kernel = rearrange(phases, "p q d c h w -> (p q d) c h w")
        four = functional.conv2d(x, kernel, bias.repeat(4), padding=half - 1)
        # channels last, as in memory: half the time of a pixel_shuffle
        four = four.movedim(1, -1)
        drawn = rearrange(four, "m y x (p q d) -> m (y p) (x q) d", p=2, q=2).movedim(-1, 1)
        down, right = (slice(padding, 2 * side + size - 2 - padding) for side in x.shape[2:])
        return drawn[..., down, right]


class Windowed(nn.Conv2d):
    """A convolution without padding; the gradient of its weights is a product of windows.

    For PlaNet's third convolution, 36 windows of 4x4x64, the gradient takes seven tenths of the
    time of PyTorch's own; for its second, 196 of 4x4x32, longer
    (assets/bench/convolution_gradients.csv).
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
    """A convolution of images with few windows of many channels: result and all gradients are
    products of windows.

    For PlaNet's last, four windows of 4x4x128, it takes half the time; for 36 windows, longer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] -> [M, D, (H - K) / 2 + 1, (W - K) / 2 + 1]"""
        windows: Tensor = _Windows.apply(x, self.kernel_size[0])  # type: ignore[no-untyped-call]
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(windows, kernel, self.bias).movedim(-1, 1)


class Patches(nn.Conv2d):
    """A convolution of patches that do not overlap, with its weights' gradient in float32.

    In bfloat16, with three channels, that gradient takes twice as long, and the images exist in
    float32 anyway.
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
        results: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            gradients[0].to(weight), x.to(weight), weight, [len(weight)],
            stride=weight.shape[2:], padding=[0, 0], dilation=[1, 1],
            transposed=False, output_padding=[0, 0], groups=1, output_mask=ctx.needs_input_grad,
        )  # fmt: skip
        return results


def _applied(layer: Transposed | Windowed, x: Tensor) -> Tensor:
    assert layer.bias is not None
    parts = [x, layer.weight, layer.bias]
    device = x.device.type
    if torch.is_autocast_enabled(device):  # autocast casts only for PyTorch's own functions
        parts = [part.to(torch.get_autocast_dtype(device)) for part in parts]
    drawn: Tensor = _Strided.apply(  # type: ignore[no-untyped-call]
        type(layer), int(layer.padding[0]), *parts
    )
    return drawn


class _Strided(torch.autograd.Function):
    """A layer's ``draw``, with the gradients that the layer computes itself."""

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
        _, _, needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        parts = (gradients[0], *ctx.saved_tensors, ctx.padding)
        return (
            None,
            None,
            ctx.layer.image_gradient(*parts) if needs_x else None,
            ctx.layer.weight_gradient(*parts) if needs_weight else None,
            gradients[0].sum((0, 2, 3)) if needs_bias else None,
        )


def _pytorchs_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: int, *, transposed: bool, of: int
) -> Tensor:
    """PyTorch's own gradient of the images (``of`` 0) or of the weights (1)."""
    results: list[Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None,
        stride=[2, 2], padding=[padding] * 2, dilation=[1, 1],
        transposed=transposed, output_padding=[0, 0], groups=1,
        output_mask=[of == 0, of == 1, False],
    )  # fmt: skip
    return results[of]


CHUNK = 50  # images whose windows together stay in a processor's cache


def _sum_of_windows(pixels: Tensor, images: Tensor, size: int) -> Tensor:
    """The sum over all windows of an output pixel times its window of the input image.

    [M, C, Y, X], [M, D, H, W] -> [C, D, K, K]
    """
    outputs, inputs = pixels.shape[1], images.shape[1]
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    total = pixels.new_zeros(outputs, size * size * inputs, dtype=dtype)
    chunks = zip(torch.split(pixels, CHUNK), torch.split(images, CHUNK), strict=True)
    for few_pixels, few_images in chunks:
        windows = _windows(few_images, size).flatten(0, 2)
        total += few_pixels.movedim(1, -1).flatten(0, 2).t() @ windows
    return rearrange(total.to(pixels.dtype), "c (k l d) -> c d k l", k=size, l=size)


def _windows(images: Tensor, size: int) -> Tensor:
    """The windows of a convolution with a stride of two: [M, C, H, W] -> [M, Y, X, K K C]"""
    windows = images.movedim(1, -1).unfold(1, size, 2).unfold(2, size, 2)
    return rearrange(windows, "m y x c k l -> m y x (k l c)")


class _Windows(torch.autograd.Function):
    """``_windows`` with a gradient of its own: PyTorch's takes many times as long."""

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
