"""Linear-Gaussian control: what is computed in closed form from rollouts, without a gradient.

``Fit`` is the dynamics, ``QuadraticCost`` the cost, ``LinearGaussian`` the policy, ``improve`` the
step from one policy to the next, and ``next_policy`` all of it, from rollouts.
"""

from __future__ import annotations

from worldmodel.linear.cost import QuadraticCost, fit_cost
from worldmodel.linear.fit import Fit, Step, moments_of
from worldmodel.linear.policy import LinearGaussian, States, divergence, expected_cost, marginals
from worldmodel.linear.regulator import Improved, improve, regulate
from worldmodel.linear.rollouts import Rollouts, next_policy, steps_of

__all__ = [
    "Fit",
    "Improved",
    "LinearGaussian",
    "QuadraticCost",
    "Rollouts",
    "States",
    "Step",
    "divergence",
    "expected_cost",
    "fit_cost",
    "improve",
    "marginals",
    "moments_of",
    "next_policy",
    "regulate",
    "steps_of",
]
