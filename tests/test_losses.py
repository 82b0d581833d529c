from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from tests.conftest import Answer, Echo, practise
from worldmodel.behaviours.imagined import act_in_imagination
from worldmodel.behaviours.returns import lambda_returns
from worldmodel.config import Config
from worldmodel.losses import KL, Image, mean_over_valid, terms_of
from worldmodel.models import WorldModel
from worldmodel.models.fast.image_error import image_error
from worldmodel.models.latents import Gaussian
from worldmodel.structs import Batch


def gaussian(mean: Tensor, std: Tensor) -> Gaussian:
    return Gaussian(mean, std, sample=mean)


def random_latents(*shape: int) -> tuple[Gaussian, Gaussian]:
    def one() -> Gaussian:
        return gaussian(
            torch.randn(*shape).requires_grad_(), torch.rand(*shape).add(0.2).requires_grad_()
        )

    return one(), one()


def between(posterior: Gaussian, prior: Gaussian) -> tuple[Any, Any, torch.Generator]:
    """The argument of a term that reads only the posterior and the prior."""
    return None, types.SimpleNamespace(posterior=posterior, prior=prior), torch.Generator()


def make_batch(rows: int, steps: int, size: int = 16) -> Batch:
    return Batch(
        image=torch.randint(0, 256, (rows, steps, size, size, 3), dtype=torch.uint8),
        action=torch.rand(rows, steps, 2) * 2 - 1,
        reward=torch.rand(rows, steps),
        discount=torch.ones(rows, steps),
        valid=torch.ones(rows, steps, dtype=torch.bool),
    )


def test_the_divergence_is_that_of_torch() -> None:
    posterior, prior = random_latents(3, 5, 4)
    expected = distributions.kl_divergence(
        distributions.Normal(posterior.mean, posterior.std),
        distributions.Normal(prior.mean, prior.std),
    ).sum(-1)
    torch.testing.assert_close(posterior.divergence(prior), expected)


def test_the_divergence_is_its_integral() -> None:
    posterior = gaussian(torch.tensor([[0.3]]), torch.tensor([[0.5]]))
    prior = gaussian(torch.tensor([[-0.4]]), torch.tensor([[0.9]]))
    x = torch.linspace(-8, 8, 20_001)
    p = distributions.Normal(0.3, 0.5).log_prob(x)
    q = distributions.Normal(-0.4, 0.9).log_prob(x)
    integral = torch.trapezoid(p.exp() * (p - q), x)
    torch.testing.assert_close(posterior.divergence(prior)[0], integral, rtol=1e-4, atol=0)


def test_balance_gives_each_side_its_own_weight() -> None:
    posterior, prior = random_latents(3, 4)
    term = KL(dynamics=0.8, representation=0.1, free_nats=0.0)
    plain = torch.autograd.grad(
        posterior.divergence(prior).sum(), [posterior.mean, prior.mean], retain_graph=True
    )
    terms = term(*between(posterior, prior))
    balanced = torch.autograd.grad(sum(terms.values()).sum(), [posterior.mean, prior.mean])
    torch.testing.assert_close(balanced[0], 0.1 * plain[0])
    torch.testing.assert_close(balanced[1], 0.8 * plain[1])


def test_below_free_nats_there_is_no_gradient() -> None:
    posterior, prior = random_latents(6, 4)
    nats = posterior.divergence(prior)
    free = float(nats.detach().median())
    free_kl = KL(dynamics=1.0, representation=0.0, free_nats=free)
    term = free_kl(*between(posterior, prior))["kl_dynamics"]
    pull = torch.autograd.grad(term.sum(), prior.mean)[0].abs().sum(-1)
    torch.testing.assert_close(term, nats.clamp(min=free))
    assert (pull[nats < free] == 0).all()
    assert (pull[nats > free] > 0).all()


def test_lambda_returns_are_their_definition_with_ends_inside() -> None:
    """G_l = (1 - trace) sum_n trace^(n-1) G_l^(n) + trace^(N-1) G_l^(N), in O(L^2) steps."""
    length, trace = 6, 0.8
    reward, value = torch.randn(2, length), torch.randn(2, length)
    discount = torch.full((2, length), 0.9)
    discount[0, 2] = 0.0  # an end inside

    def n_step(row: int, begin: int, n: int) -> float:
        total, reached = 0.0, 1.0
        for step in range(begin, begin + n):
            total += reached * float(reward[row, step])
            reached *= float(discount[row, step])
        return total + reached * float(value[row, begin + n - 1])

    expected = torch.zeros(2, length)
    for row in range(2):
        for begin in range(length):
            longest = length - begin
            mixed = sum(
                (1 - trace) * trace ** (n - 1) * n_step(row, begin, n) for n in range(1, longest)
            )
            expected[row, begin] = mixed + trace ** (longest - 1) * n_step(row, begin, longest)
    torch.testing.assert_close(lambda_returns(reward, discount, value, trace), expected)


def test_padding_does_not_count(model: WorldModel, tiny: Config) -> None:
    term = torch.tensor([[1.0, 2.0, 100.0], [3.0, 200.0, 300.0]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_valid(term, valid) == 2.0


def test_every_row_has_every_term(model: WorldModel, tiny: Config) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = model.infer(make_batch(2, 5), generator)
    terms = terms_of(tiny.objective, model, seen, generator)
    assert {term.shape for term in terms.values()} == {torch.Size([2, 5])}
    assert seen.posterior.shape == seen.prior.shape == (2, 5)
    assert not seen.follows[:, 0].any()
    assert seen.follows[:, 1:].all()
    assert set(terms) == {"kl_dynamics", "kl_representation", "reward", "discount", "image"}


def test_decoding_a_share_of_the_rows_gives_the_same_loss_on_average(
    model: WorldModel, tiny: Config
) -> None:
    batch = make_batch(3, 4)
    model.dynamics.min_std = 1e-6  # without noise in the latent, only the choice of rows differs

    def image_loss(share: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            seen = model.infer(batch, generator)
            return Image(decoded_share=share)(model, seen, generator)["image"]

    quarter = torch.stack([image_loss(0.25, seed) for seed in range(200)])
    assert ((quarter > 0).sum((1, 2)) == 3).all()
    torch.testing.assert_close(quarter.mean(), image_loss(1.0, 0).mean(), rtol=0.02, atol=0)


def test_imagined_actions_are_the_policys_and_weights_are_discounts(
    model: WorldModel, tiny: Config
) -> None:
    assert model.policy is not None
    starts = model.dynamics.initial(5)
    model.discount = Answer(lambda features: torch.full(features.shape[:-1], 0.5))
    imagined = act_in_imagination(
        model,
        model.policy,
        starts,
        horizon=3,
        return_lambda=0.9,
        discount_rate=0.8,
        generator=torch.Generator().manual_seed(0),
    )
    assert imagined.features.shape == (5, 4, model.dynamics.feature_size)
    assert torch.equal(imagined.features[:, 0], starts.features)
    torch.testing.assert_close(imagined.weights, torch.tensor([1.0, 0.4, 0.16]).expand(5, 3))


def test_imagined_returns_teach_the_policy_the_rewarded_action(model: WorldModel) -> None:
    """A world whose latent is the last action: the gradient points to the rewarded one."""
    policy = model.policy
    assert policy is not None

    echo = Echo(2)
    starts = echo.at_rest(64, memory_size=model.dynamics.feature_size - 2)
    model.dynamics = echo
    model.reward = Answer(lambda features: -((features[..., -1] - 0.6) ** 2))
    model.slow_value = Answer(lambda features: torch.zeros(features.shape[:-1]))
    model.discount = Answer(lambda features: torch.ones(features.shape[:-1]))
    practise(model, policy, starts, rate=0.02, updates=200)
    with torch.no_grad():
        mean, std = policy(starts.features[:1])
    assert float(mean[0, 1]) == pytest.approx(0.6, abs=0.1)
    assert std[0, 1] < 0.25  # noise costs where the reward is curved
    assert std[0, 0] > 0.5  # and nothing where it is flat


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_images_error_and_its_gradient_are_autograds(dtype: torch.dtype) -> None:
    drawn = torch.randn(4, 3, 5, 6).to(dtype).requires_grad_()
    target = torch.randn(4, 3, 5, 6, dtype=torch.promote_types(dtype, torch.float32))
    target[3] = drawn[3].detach()  # nothing wrong is no error, and no gradient
    plain = 0.5 * (drawn - target).square().sum((1, 2, 3))
    result = image_error(drawn, target)
    torch.testing.assert_close(result, plain)
    upstream = torch.randn_like(plain)
    gradients = [torch.autograd.grad(each, drawn, upstream)[0] for each in (result, plain)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][3].any()
