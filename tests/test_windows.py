"""A convolution as a product of windows against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worldmodel.models.windows import FewWindows

SIDES = [(4, 6, 6), (4, 7, 9), (2, 4, 5), (5, 9, 5)]  # kernel, height, width


@pytest.mark.parametrize("sides", SIDES)
def test_results_and_gradients_are_pytorchs(sides: tuple[int, int, int]) -> None:
    kernel, *image = sides
    ours, theirs = FewWindows(3, 5, kernel).double(), nn.Conv2d(3, 5, kernel, 2).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *image, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    upstream = torch.randn_like(theirs(x))
    found, expected = (
        torch.autograd.grad(layer(x), [x, *layer.parameters()], upstream)
        for layer in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)


def test_autocast() -> None:
    ours = FewWindows(3, 5, 4)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    exact = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = ours(x)
    assert drawn.dtype == torch.bfloat16
    torch.testing.assert_close(drawn.float(), exact, atol=0.03, rtol=0.03)
    drawn.sum().backward()
    assert x.grad is not None
