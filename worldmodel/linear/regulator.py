"""The linear-quadratic regulator with a bounded change: from one policy to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.linear.cost import QuadraticCost
from worldmodel.linear.fit import Step
from worldmodel.linear.policy import (
    LinearGaussian,
    arriving,
    divergence,
    marginals,
)

# The search for eta: its ends, and how often the interval of its logarithm is halved at most. It
# also ends where this share of the bound is used.
LEAST, MOST, HALVINGS, ENOUGH = 1e-8, 1e12, 60, 0.95


@dataclass(frozen=True)
class Improved:
    policy: LinearGaussian
    divergence: float  # nats, from the last policy, of a whole trajectory
    eta: float  # the price of a nat


def improve(
    last: LinearGaussian,
    steps: Step,
    cost: QuadraticCost,
    mean: Tensor,
    covariance: Tensor,
    *,
    bound: float,
) -> Improved:
    """The policy of least expected cost among those within ``bound`` nats of the last one.

    ::

        min  E_p[sum_t cost]   so that   KL(p || p_last) <= bound

    For a price eta of a nat the answer is ``regulate``; the KL falls as eta rises, so the smallest
    eta that keeps the bound is found by bisection. An infinite bound is the plain regulator.
    Trajectories begin in N(mean [S], covariance [S, S]).
    """

    def at(eta: float) -> Improved:
        policy = regulate(last, steps, cost, eta)
        states = marginals(policy, steps, mean, covariance)
        return Improved(policy, float(divergence(policy, last, states)), eta)

    def keeps(tried: Improved) -> bool:
        return tried.divergence <= bound  # False for NaN

    low, high = math.log(LEAST), math.log(MOST)
    if keeps(best := at(LEAST)) or bound == math.inf:
        return best
    best = Improved(last, 0.0, math.inf)
    for _ in range(HALVINGS):
        if best.divergence >= ENOUGH * bound:
            break
        middle = (low + high) / 2
        tried = at(math.exp(middle))
        if keeps(tried):
            best, high = tried, middle
        else:
            low = middle
    return best


def regulate(last: LinearGaussian, steps: Step, cost: QuadraticCost, eta: float) -> LinearGaussian:
    """Minimise E[sum_t cost / eta] + KL(p || p_last) exactly, backwards in time (Riccati)::

        Q_t(s, a) = E[cost(s', a) / eta + V_{t+1}(s')] - log p_last(a | s)
        p(a | s) = N(-Q_aa^-1 (Q_as s + q_a), Q_aa^-1)

    eta -> 0 is the plain regulator, whose actions do not vary; eta -> infinity keeps ``last``.
    """
    size = steps.offset.shape[-1]
    arrive = arriving(steps.matrix)
    curvature_ahead = cost.curvature.new_zeros(size, size)  # of V
    slope_ahead = cost.curvature.new_zeros(size)
    gains, pushes, covariances = [], [], []
    for t in reversed(range(len(last))):
        # of the cost of the row that comes, and all after it, by (s', a), then by (s, a)
        curvature, slope = cost.curvature / eta, cost.slope / eta
        curvature[:size, :size] += curvature_ahead
        slope[:size] += slope_ahead
        slope = arrive[t].mT @ (slope + curvature[:, :size] @ steps.offset[t])
        curvature = arrive[t].mT @ curvature @ arrive[t]
        # minus log p_last(a | s), up to a constant
        inverse = torch.linalg.inv(last.covariance[t])
        beside = torch.cat([-last.gain[t], torch.eye(len(inverse)).to(inverse)], -1)  # a - K s
        curvature = curvature + beside.mT @ inverse @ beside
        slope = slope - beside.mT @ inverse @ last.push[t]
        curvature = (curvature + curvature.mT) / 2

        own = torch.linalg.inv(curvature[size:, size:])
        gain, push = -own @ curvature[size:, :size], -own @ slope[size:]
        # the cost to go of following the new mean: a form without negative eigenvalues
        follow = torch.cat([torch.eye(size).to(gain), gain])  # [Z, S]
        slope_ahead = follow.mT @ (slope + curvature[:, size:] @ push)
        curvature_ahead = follow.mT @ curvature @ follow
        curvature_ahead = (curvature_ahead + curvature_ahead.mT) / 2
        gains.append(gain)
        pushes.append(push)
        covariances.append((own + own.mT) / 2)
    return LinearGaussian(
        torch.stack(gains[::-1]), torch.stack(pushes[::-1]), torch.stack(covariances[::-1])
    )
