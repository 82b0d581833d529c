"""Linear-Gaussian control: the fit, the cost and the bounded step, against exact answers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from worldmodel.linear import (
    Fit,
    LinearGaussian,
    QuadraticCost,
    Step,
    divergence,
    expected_cost,
    fit_cost,
    improve,
    marginals,
    moments_of,
    regulate,
)
from worldmodel.planners import ilqr

L, S, A = 12, 3, 2
DOUBLE = torch.float64


def pendulum(rate: float = 0.05) -> Step:
    """Gymnasium's pendulum near upright, linear, exact over one row: (angle, velocity), torque.

    th'' = 3 g / (2 l) th + 3 / (m l^2) u with g = 10, m = l = 1.
    """
    flow = torch.zeros(3, 3, dtype=DOUBLE)
    flow[0, 1], flow[1, 0], flow[1, 2] = 1.0, 15.0, 3.0
    exact = torch.matrix_exp(flow * rate)
    return Step(exact[:2], torch.zeros(2, dtype=DOUBLE), 1e-4 * torch.eye(2, dtype=DOUBLE))


def rollouts(step: Step, count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """States [N, L + 1, S] and actions [N, L, A] of random actions."""
    random = torch.Generator().manual_seed(seed)
    size = len(step.offset)
    noisy = torch.linalg.cholesky(step.covariance)
    states = [0.3 * torch.randn(count, size, generator=random, dtype=DOUBLE)]
    actions = torch.randn(
        count, length, step.matrix.shape[-1] - size, generator=random, dtype=DOUBLE
    )
    for t in range(length):
        noise = torch.randn(count, size, generator=random, dtype=DOUBLE)
        joint = torch.cat([states[-1], actions[:, t]], -1)
        states.append(joint @ step.matrix.mT + step.offset + noise @ noisy.mT)
    return torch.stack(states, 1), actions


def repeated(step: Step, times: int) -> Step:
    return Step(*(part.expand(times, *part.shape) for part in vars(step).values()))


def problem(seed: int = 0) -> tuple[LinearGaussian, Step, QuadraticCost, Tensor, Tensor]:
    """A policy, time-varying dynamics, a cost, and the Gaussian of the start."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=DOUBLE)

    steps = Step(0.5 * normal(L, S, S + A), normal(L, S), spd(normal(L, S, S)))
    policy = LinearGaussian(0.3 * normal(L, A, S), normal(L, A), spd(normal(L, A, A)))
    cost = QuadraticCost(spd(normal(S + A, S + A)), normal(S + A), normal(1)[0])
    return policy, steps, cost, normal(S), spd(normal(S, S))


def spd(root: Tensor) -> Tensor:
    return root @ root.mT + 0.1 * torch.eye(root.shape[-1], dtype=DOUBLE)


def test_the_fit_of_one_number_is_the_one_found_by_summing_over_a_grid() -> None:
    """s' = m s + w without action and offset: mean of m and of the variance, by quadrature."""
    random = torch.Generator().manual_seed(3)
    s = torch.randn(6, generator=random, dtype=DOUBLE)
    following = 0.4 * s + 0.7 * torch.randn(6, generator=random, dtype=DOUBLE)
    one = torch.ones(1, 1, dtype=DOUBLE)
    prior = Fit(one, one, one, torch.tensor(3.0, dtype=DOUBLE))
    rows = torch.stack([s, following], -1)
    fit = prior.after(rows.mT @ rows, rows=6)

    m = torch.linspace(-6, 6, 1501, dtype=DOUBLE)[:, None]
    variance = torch.logspace(-2, 3.2, 3001, dtype=DOUBLE)[None]
    log = -(3 / 2 + 1) * variance.log() - 1 / (2 * variance)  # inverse-Wishart(1, 3)
    log = log - 0.5 * variance.log() - (m - 1).square() / (2 * variance)  # N(1, variance)
    for x, y in zip(s, following, strict=True):
        log = log - 0.5 * variance.log() - (y - m * x).square() / (2 * variance)
    density = (log - log.max()).exp() * variance  # a logarithmic grid
    density = density / density.sum()
    assert fit.step.matrix.numel() == 0  # the one number is where an offset is otherwise
    assert fit.step.offset.item() == pytest.approx(float((density * m).sum()), abs=1e-4)
    expected = float((density * variance).sum())
    assert fit.step.covariance.item() == pytest.approx(expected, rel=1e-3)


def test_rows_in_two_parts_say_the_same_as_at_once() -> None:
    states, actions = rollouts(pendulum(), 4, 7, seed=0)
    inputs = states[:, :-1].flatten(0, 1), actions.flatten(0, 1), states[:, 1:].flatten(0, 1)
    parts = [moments_of(*(each[half] for each in inputs)) for half in (slice(9), slice(9, 28))]
    twice = Fit.prior(2, 1).after(parts[0], 9).after(parts[1], 19)
    once = Fit.prior(2, 1).after(moments_of(*inputs), 28)
    for name, part in vars(once).items():
        torch.testing.assert_close(vars(twice)[name], part)


def test_fifty_rollouts_show_the_matrix_of_a_linear_pendulum() -> None:
    truth = pendulum()
    states, actions = rollouts(truth, 50, 20, seed=1)
    flat = states[:, :-1].flatten(0, 1), actions.flatten(0, 1), states[:, 1:].flatten(0, 1)
    found = Fit.prior(2, 1).after(moments_of(*flat), 1000).step
    error = torch.linalg.matrix_norm(found.matrix - truth.matrix)
    assert error <= 0.05 * torch.linalg.matrix_norm(truth.matrix)
    torch.testing.assert_close(found.covariance, truth.covariance, atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_each_time_needs_the_prior_where_rollouts_are_few(seed: int) -> None:
    """3 rollouts have fewer rows at a time than [A B o] has columns: least squares is arbitrary.

    Judged by what the plain regulator of each fit costs on the true steps.
    """
    truth = pendulum()
    states, actions = rollouts(truth, 3, 20, seed=seed)
    times = [part.transpose(0, 1) for part in (states[:, :-1], actions, states[:, 1:])]
    moments = moments_of(*times)  # [L, X + S, X + S]
    everywhere = Fit.prior(2, 1).after(moments.sum(0), 60).at_strength(50)
    with_prior = everywhere.after(moments, 3).step
    inputs = torch.cat([*times[:2], torch.ones(20, 3, 1, dtype=DOUBLE)], -1)
    alone = (torch.linalg.pinv(inputs) @ times[2]).mT
    without = Step(alone[..., :-1], alone[..., -1], with_prior.covariance)
    cost = QuadraticCost(
        torch.diag(torch.tensor([2.0, 0.2, 0.02], dtype=DOUBLE)),
        torch.zeros(3, dtype=DOUBLE),
        torch.zeros((), dtype=DOUBLE),
    )
    start = torch.tensor([0.3, 0.0], dtype=DOUBLE), 1e-4 * torch.eye(2, dtype=DOUBLE)
    still = LinearGaussian(
        torch.zeros(20, 1, 2, dtype=DOUBLE),
        torch.zeros(20, 1, dtype=DOUBLE),
        torch.ones(20, 1, 1, dtype=DOUBLE),
    )

    def cost_of(believed: Step) -> float:
        policy = improve(still, believed, cost, *start, bound=math.inf).policy
        true = repeated(truth, 20)
        return float(expected_cost(policy, true, marginals(policy, true, *start), cost))

    best = cost_of(repeated(truth, 20))
    assert cost_of(with_prior) < 2 * best
    assert cost_of(without) > 5 * best


def test_strength_keeps_the_mean_step_and_never_makes_a_fit_surer() -> None:
    states, actions = rollouts(pendulum(), 30, 9, seed=4)
    flat = states[:, :-1].flatten(0, 1), actions.flatten(0, 1), states[:, 1:].flatten(0, 1)
    fit = Fit.prior(2, 1).after(moments_of(*flat), 270)
    weak = fit.at_strength(50)
    for name, part in vars(fit.step).items():
        torch.testing.assert_close(vars(weak.step)[name], part)
    assert float(weak.freedom) == pytest.approx(53)
    assert torch.equal(fit.at_strength(10_000).precision, fit.precision)


def test_a_convex_cost_is_fitted_exactly_and_another_one_becomes_convex() -> None:
    random = torch.Generator().manual_seed(0)
    joint = torch.randn(200, S + A, generator=random, dtype=DOUBLE)
    state, action = joint.split([S, A], -1)
    truth = QuadraticCost(
        spd(torch.randn(5, 5, generator=random, dtype=DOUBLE)), joint[0], joint[1, 0]
    )
    found = fit_cost(state, action, truth(joint))
    for name, part in vars(truth).items():
        torch.testing.assert_close(vars(found)[name], part, atol=1e-3, rtol=1e-3)
    bent = fit_cost(state, action, -joint[:, 0].square() + 2 * joint[:, 1] + 3)
    assert torch.linalg.eigvalsh(bent.curvature).min() >= -1e-9
    assert bent.slope[1].item() == pytest.approx(2, abs=0.3)


def test_the_divergence_is_that_of_the_whole_trajectories() -> None:
    """Against torch.distributions, on the joint Gaussian of all states and actions."""
    policy, steps, _, mean, covariance = problem()
    other = problem(seed=1)[0]
    states = marginals(policy, steps, mean, covariance)
    whole = [joint_gaussian(p, steps, mean, covariance) for p in (policy, other)]
    expected = kl_divergence(whole[0], whole[1])
    torch.testing.assert_close(divergence(policy, other, states), expected, rtol=1e-6, atol=1e-6)
    assert divergence(policy, policy, states).abs() < 1e-9


def joint_gaussian(
    policy: LinearGaussian, steps: Step, mean: Tensor, covariance: Tensor
) -> MultivariateNormal:
    """The Gaussian of (s_0, a_0, s_1, ..., a_{L-1}, s_L), row by row."""
    own, all_of_it = mean, covariance
    for t in range(L):
        for matrix, offset, noise in (
            (policy.gain[t], policy.push[t], policy.covariance[t]),
            (steps.matrix[t], steps.offset[t], steps.covariance[t]),
        ):
            new = torch.zeros(len(offset), len(own), dtype=DOUBLE)
            new[:, -matrix.shape[-1] :] = matrix
            cross = new @ all_of_it
            top = torch.cat([all_of_it, cross.mT], -1)
            all_of_it = torch.cat([top, torch.cat([cross, cross @ new.mT + noise], -1)])
            own = torch.cat([own, new @ own + offset])
    return MultivariateNormal(own, all_of_it)


def test_the_expected_cost_is_that_of_many_drawn_trajectories() -> None:
    policy, steps, cost, mean, covariance = problem()
    drawn = joint_gaussian(policy, steps, mean, covariance).sample((40_000,))
    rows = drawn[:, S:].reshape(40_000, L, A + S)
    costs = cost(torch.cat([rows[..., A:], rows[..., :A]], -1)).sum(-1)
    states = marginals(policy, steps, mean, covariance)
    expected = float(expected_cost(policy, steps, states, cost))
    assert expected == pytest.approx(float(costs.mean()), abs=4 * float(costs.std()) / 200)


def test_a_free_step_is_the_plain_regulator_and_an_infinite_price_keeps_the_policy() -> None:
    policy, steps, cost, mean, covariance = problem()
    free = improve(policy, steps, cost, mean, covariance, bound=math.inf).policy
    assert free.covariance.abs().max() < 1e-6
    kept = regulate(policy, steps, cost, eta=1e12)
    for name, part in vars(policy).items():
        torch.testing.assert_close(vars(kept)[name], part, atol=1e-6, rtol=1e-6)


def test_the_plain_regulator_is_the_one_that_ilqr_finds() -> None:
    """For steps that do not change over time, along the mean."""
    policy, steps, cost, mean, covariance = problem()
    step = Step(steps.matrix[0], steps.offset[0], steps.covariance[0])
    free = improve(policy, repeated(step, L), cost, mean, covariance, bound=math.inf).policy
    still = LinearGaussian(free.gain, free.push, 0 * free.covariance)
    states = marginals(still, repeated(step, L), mean, covariance)
    actions = (free.gain @ states.mean[:-1, :, None])[..., 0] + free.push

    def dynamics(state: Tensor, action: Tensor) -> Tensor:
        return step.matrix @ torch.cat([state, action]) + step.offset

    found = ilqr(
        dynamics,
        lambda state, action: cost(torch.cat([dynamics(state, action), action])),
        lambda state: 0.0 * state.sum(),
        mean[None],
        torch.zeros(1, L, A, dtype=DOUBLE),
        iterations=1,
        low=-1e6,
        high=1e6,
        out_of_time=lambda: False,
    )
    torch.testing.assert_close(found.actions[0], actions, rtol=1e-5, atol=1e-5)


def test_steps_keep_the_bound_and_the_cost_falls_to_the_best() -> None:
    policy, steps, cost, mean, covariance = problem()
    costs = [float(expected_cost(policy, steps, marginals(policy, steps, mean, covariance), cost))]
    for _ in range(15):
        improved = improve(policy, steps, cost, mean, covariance, bound=5.0)
        states = marginals(improved.policy, steps, mean, covariance)
        assert float(divergence(improved.policy, policy, states)) <= 5.0
        policy = improved.policy
        costs.append(float(expected_cost(policy, steps, states, cost)))
    assert all(later < earlier for earlier, later in itertools.pairwise(costs))
    best = improve(policy, steps, cost, mean, covariance, bound=math.inf).policy
    least = float(expected_cost(best, steps, marginals(best, steps, mean, covariance), cost))
    assert costs[-1] - least < 0.05 * (costs[0] - least)
