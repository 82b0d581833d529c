"""From rollouts to the next policy: SOLAR's iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.linear.cost import fit_cost
from worldmodel.linear.fit import Fit, Step, moments_of
from worldmodel.linear.policy import LinearGaussian
from worldmodel.linear.regulator import Improved, improve

# The least variance of a number of the first state, of which all rollouts may be the same.
START_VARIANCE = 1e-4


@dataclass(frozen=True)
class Rollouts:
    """N episodes of one policy, all of L actions. Action and cost t came with state t + 1."""

    state: Tensor  # [N, L + 1, S]
    action: Tensor  # [N, L, A]
    cost: Tensor  # [N, L]


def next_policy(
    last: LinearGaussian, rollouts: Rollouts, *, strength: float, around: int, bound: float
) -> Improved:
    """The policy after ``last``, which played the rollouts: fit steps and cost, and ``improve``."""
    state, action = rollouts.state.double(), rollouts.action.double()
    steps = steps_of(rollouts, strength=strength, around=around)
    cost = fit_cost(state[:, 1:].flatten(0, 1), action.flatten(0, 1), rollouts.cost.flatten())
    start = state[:, 0]
    spread = torch.cov(start.mT, correction=0).reshape(start.shape[-1], -1)
    spread = spread + START_VARIANCE * torch.eye(len(spread)).to(spread)
    return improve(last, steps, cost, start.mean(0), spread, bound=bound)


def steps_of(rollouts: Rollouts, *, strength: float, around: int) -> Step:
    """A step of each time, [L]: fitted to its own rows, under a prior from the rows around it.

    The prior of time t is the fit of the rows at the times from t - around to t + around. It counts
    as ``strength`` rows.
    """
    state, action = rollouts.state.transpose(0, 1), rollouts.action.transpose(0, 1)
    own = moments_of(state[:-1], action, state[1:])  # [L, X + S, X + S]
    length, count = action.shape[:2]
    times = torch.arange(length)
    near = ((times[:, None] - times).abs() <= around).to(own)  # [L, L]
    nothing = Fit.prior(state.shape[-1], action.shape[-1])
    nearby = torch.einsum("tu,uij->tij", near, own)
    prior = nothing.after(nearby, near.sum(-1) * count).at_strength(strength)
    return prior.after(own, float(count)).step
