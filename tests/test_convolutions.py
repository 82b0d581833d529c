"""Fast convolutions and transposed convolutions, compared with PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worldmodel.models.fast import convolutions
from worldmodel.models.fast.convolutions import (
    Doubling,
    FewPixels,
    FewWindows,
    FromOnePixel,
    Patches,
    Transposed,
    Windowed,
)

DRAWING = {"transposed": Transposed, "few pixels": FewPixels, "doubling": Doubling}
SEEING = {"few windows": FewWindows, "many windows": Windowed, "patches": Patches}
Convolution = nn.Conv2d | nn.ConvTranspose2d
Pair = tuple[Convolution, Convolution, torch.Tensor]


def pair(case: str) -> Pair:
    """Ours, PyTorch's with the same weights, and images for both."""
    torch.manual_seed(0)
    name, *numbers = case.split(", ")
    ours: Convolution
    theirs: Convolution
    if name in SEEING:
        kernel, *image = map(int, numbers)
        ours = SEEING[name](7, 4, kernel)
        theirs = nn.Conv2d(7, 4, kernel, ours.stride)  # type: ignore[arg-type]
    else:
        image = [5, 6] if name in DRAWING else [1, 1]
        ours = DRAWING[name](7, 4, *map(int, numbers)) if numbers else FromOnePixel(7, 4, 5, 2)
        theirs = nn.ConvTranspose2d(7, 4, ours.kernel_size, 2, ours.padding)  # type: ignore[arg-type]
    theirs.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double(), torch.randn(3, 7, *image).double().requires_grad_()


CASES = [
    "one pixel",
    "patches, 4, 8, 12",
    "patches, 3, 7, 9",
    *(
        f"{how} windows, {shape}"
        for how in ("few", "many")
        for shape in ("4, 6, 6", "4, 7, 9", "2, 4, 5", "5, 9, 5")
    ),
    *(f"{kind}, {size}, {pad}" for kind in DRAWING for size in range(2, 7) for pad in (0, 1)),
]


@pytest.mark.parametrize("case", CASES)
def test_draws_what_pytorch_draws(case: str) -> None:
    ours, theirs, x = pair(case)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_pytorchs(case: str) -> None:
    ours, theirs, x = pair(case)
    upstream = torch.randn_like(theirs(x))
    result, expected = (
        torch.autograd.grad(layer(x), [x, *layer.parameters()], upstream)
        for layer in (ours, theirs)
    )
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("case", ["few pixels, 5, 1", "many windows, 4, 7, 9"])
def test_gradients_are_equal_when_images_are_taken_in_chunks(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "CHUNK", 2)
    test_gradients_are_pytorchs(case)


@pytest.mark.parametrize("case", CASES)
def test_autocast_and_no_gradient(case: str) -> None:
    ours, theirs, x = (part.float() for part in pair(case))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        drawn = ours(x)
    assert drawn.dtype == torch.bfloat16
    torch.testing.assert_close(drawn.float(), theirs(x), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("case", ["doubling, 6, 0", *CASES[1:7]])
def test_an_input_without_gradient_gets_none(case: str) -> None:
    ours, _, x = pair(case)
    ours(x.detach()).sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_two_products_without_an_activation_between_are_one() -> None:
    torch.manual_seed(0)
    start, layer = nn.Linear(5, 40).double(), FromOnePixel(40, 3, 5, 2).double()
    features = torch.randn(2, 5).double().requires_grad_()
    drawn = layer.after(start, features)
    expected = layer(start(features)[:, :, None, None])
    torch.testing.assert_close(drawn, expected)
    upstream = torch.randn_like(expected)
    inputs = [features, *start.parameters(), *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(drawn, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
    )
