"""Dense products by oneDNN, compared with PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.fast import onednn
from worldmodel.models.fast.onednn import Linear, has_onednn, multiplied

pytestmark = pytest.mark.skipif(not has_onednn(torch.float32), reason="torch without oneDNN")


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(onednn, "WORTH", 0)


def is_ours(product: Tensor) -> bool:
    node = product.grad_fn
    while node is not None and any(way in node.name() for way in ("Reshape", "View")):
        node = node.next_functions[0][0]
    return node is not None and "_Product" in node.name()


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_and_gradients_are_pytorchs(shape: tuple[int, ...], has_bias: bool) -> None:
    ours = Linear(5, 7, bias=has_bias)
    theirs = nn.Linear(5, 7, bias=has_bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*shape, 5).requires_grad_()
    result, expected = ours(x), theirs(x)
    assert is_ours(result)
    assert not is_ours(expected)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(*shape, 7)
    gradients = (
        torch.autograd.grad(product, [x, *layer.parameters()], upstream)
        for product, layer in ((result, ours), (expected, theirs))
    )
    torch.testing.assert_close(*gradients)


def test_gradients_that_are_not_needed_are_not_computed() -> None:
    x, weight = torch.randn(4, 5), torch.randn(7, 5).requires_grad_()
    upstream = torch.randn(4, 7)
    (of_weight,) = torch.autograd.grad(multiplied(x, weight), weight, upstream)
    torch.testing.assert_close(of_weight, upstream.t() @ x)
    (of_x,) = torch.autograd.grad(multiplied(x.requires_grad_(), weight.detach()), x, upstream)
    torch.testing.assert_close(of_x, upstream @ weight)


def test_few_numbers_float64_autocast_and_acting_are_left_to_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, layer = torch.randn(4, 5), Linear(5, 7)
    with torch.no_grad():
        assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert not is_ours(layer.double()(x.double()))
    monkeypatch.setattr(onednn, "WORTH", 4 * 5 * 7 + 1)
    assert not is_ours(layer.float()(x))
    monkeypatch.setattr(onednn, "WORTH", 4 * 5 * 7)
    assert is_ours(layer(x))
    monkeypatch.setattr(onednn, "has_onednn", lambda dtype: False)
    assert not is_ours(layer(x))


def test_derivatives_of_derivatives_are_pytorchs() -> None:
    """Planners that compute curvatures give one input at a time, through vmap."""
    layer = Linear(5, 7)

    def cost(x: Tensor) -> Tensor:
        return layer(x).tanh().square().sum()

    rows = torch.randn(4, 5)
    curvature = torch.func.vmap(torch.func.jacrev(torch.func.grad(cost)))(rows)
    expected = torch.stack([torch.autograd.functional.hessian(cost, row) for row in rows])
    torch.testing.assert_close(curvature, expected)
