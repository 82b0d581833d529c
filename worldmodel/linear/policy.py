"""Time-varying linear-Gaussian policies: where they lead, what that costs, how far two differ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.linear.cost import QuadraticCost
from worldmodel.linear.fit import Step


@dataclass(frozen=True)
class LinearGaussian:
    """A policy for L actions, each with numbers of its own: a_t ~ N(K_t s_t + k_t, C_t)."""

    gain: Tensor  # [L, A, S] K
    push: Tensor  # [L, A] k
    covariance: Tensor  # [L, A, A] C

    def __len__(self) -> int:
        return len(self.push)


@dataclass(frozen=True)
class States:
    """The Gaussians of the states s_0 ... s_L under a policy and dynamics."""

    mean: Tensor  # [L + 1, S]
    covariance: Tensor  # [L + 1, S, S]


def joint_of(policy: LinearGaussian, states: States) -> tuple[Tensor, Tensor]:
    """Mean [L, Z] and covariance [L, Z, Z] of (s_t, a_t)."""
    mean, spread = states.mean[:-1], states.covariance[:-1]
    size = mean.shape[-1]
    eye = torch.eye(size, dtype=mean.dtype).expand(len(policy), -1, -1)
    from_state = torch.cat([eye, policy.gain], 1)  # [L, Z, S]
    action = (policy.gain @ mean[..., None])[..., 0] + policy.push
    covariance = from_state @ spread @ from_state.mT
    covariance[:, size:, size:] += policy.covariance
    return torch.cat([mean, action], -1), covariance


def marginals(policy: LinearGaussian, steps: Step, mean: Tensor, covariance: Tensor) -> States:
    """Where a policy leads from N(mean [S], covariance [S, S]); ``steps`` are one for each time."""
    size = len(mean)
    means, covariances = [mean], [covariance]
    for t in range(len(policy)):
        way = steps.matrix[t, :, :size] + steps.matrix[t, :, size:] @ policy.gain[t]
        by_action = steps.matrix[t, :, size:]
        drawn = by_action @ policy.covariance[t] @ by_action.mT
        means.append(way @ means[-1] + by_action @ policy.push[t] + steps.offset[t])
        covariances.append(way @ covariances[-1] @ way.mT + drawn + steps.covariance[t])
    return States(torch.stack(means), torch.stack(covariances))


def expected_cost(
    policy: LinearGaussian, steps: Step, states: States, cost: QuadraticCost
) -> Tensor:
    """The expected sum of the costs of the L rows that follow s_0: []"""
    size = states.mean.shape[-1]
    mean, covariance = joint_of(policy, states)  # of (s_t, a_t)
    arrive = arriving(steps.matrix)
    mean = (arrive @ mean[..., None])[..., 0]  # of (s_{t+1}, a_t)
    mean[:, :size] += steps.offset
    covariance = arrive @ covariance @ arrive.mT
    covariance[:, :size, :size] += steps.covariance
    spread = 0.5 * (cost.curvature * covariance).sum((-1, -2))
    total: Tensor = (cost(mean) + spread).sum()
    return total


def arriving(matrix: Tensor) -> Tensor:
    """The matrix [..., Z, Z] from (s_t, a_t) to (s_{t+1}, a_t), of [A B] [..., S, Z]."""
    states, joint = matrix.shape[-2:]
    keep = torch.eye(joint, dtype=matrix.dtype)[states:]
    return torch.cat([matrix, keep.expand(*matrix.shape[:-2], -1, -1)], -2)


def divergence(policy: LinearGaussian, last: LinearGaussian, states: States) -> Tensor:
    """KL(p(trajectory) || p_last(trajectory)) of two policies under the same dynamics: []

    The dynamics cancel. What is left is, summed over times, the mean over ``states``, which are
    those of ``policy``, of the KL of two Gaussians over actions.
    """
    mean, spread = states.mean[:-1], states.covariance[:-1]
    inverse = torch.linalg.inv(last.covariance)
    gain = policy.gain - last.gain
    apart = (gain @ mean[..., None])[..., 0] + policy.push - last.push  # [L, A]
    second = apart[..., None] * apart[..., None, :] + gain @ spread @ gain.mT + policy.covariance
    volumes = torch.logdet(last.covariance) - torch.logdet(policy.covariance)
    each = (inverse * second).sum((-1, -2)) - policy.push.shape[-1] + volumes
    total: Tensor = 0.5 * each.sum()
    return total
