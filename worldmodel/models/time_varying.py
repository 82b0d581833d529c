"""The time-varying policy: linear in the latent, with gains for each row of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.checks import at_least, more_than, require
from worldmodel.linear import LinearGaussian
from worldmodel.models.layers import Layer


@dataclass(frozen=True)
class TimeVaryingSettings:
    offers: ClassVar[frozenset[str]] = frozenset({"time-varying policy"})

    kind: Literal["time_varying"] = "time_varying"
    rows: Annotated[int, at_least(1)] = 50
    """Actions from the first of an episode on that have gains of their own; later ones use those of
    the last. Larger: each round fits more steps."""
    initial_std: Annotated[float, more_than(0)] = 0.5
    """Standard deviation of the first policy's actions, which are in [-1, 1]. Larger: the first
    rollouts show more."""

    def build(
        self, features: int, action_size: int, has_choices: bool, layer: Layer
    ) -> TimeVarying:
        require(
            not has_choices,
            "model.policy.kind: time_varying gives numbers, and here an action is one of"
            f" {action_size} choices; write model.policy.kind: tanh_normal",
        )
        return TimeVarying(self.rows, features, action_size, self.initial_std)


class TimeVarying(nn.Module):
    """a_t ~ N(K_t s_t + k_t, L_t L_t'), clipped to [-1, 1]; t is the row that the latent counts.

    Its numbers are buffers: no gradient changes them, and a checkpoint has them.
    """

    gain: Tensor
    push: Tensor
    factor: Tensor

    def __init__(self, rows: int, features: int, action_size: int, initial_std: float) -> None:
        super().__init__()
        self.rows = rows
        eye = initial_std * torch.eye(action_size)
        self.register_buffer("gain", torch.zeros(rows, action_size, features))
        self.register_buffer("push", torch.zeros(rows, action_size))
        self.register_buffer("factor", eye.repeat(rows, 1, 1))

    def act(self, situation: Tensor, noise: Tensor | None) -> Tensor:
        """[..., 1 + F], standard normal [..., A] or None for the mean -> [..., A]"""
        time = situation[..., 0].long().clamp(0, self.rows - 1)
        action: Tensor = (self.gain[time] @ situation[..., 1:, None])[..., 0] + self.push[time]
        if noise is not None:
            action = action + (self.factor[time] @ noise.to(action)[..., None])[..., 0]
        return action.clamp(-1.0, 1.0)

    def read(self) -> LinearGaussian:
        """The policy as a regulator takes it."""
        factor = self.factor.double().cpu()
        return LinearGaussian(
            self.gain.double().cpu(), self.push.double().cpu(), factor @ factor.mT
        )

    def write(self, policy: LinearGaussian) -> None:
        """Act like this policy, which may have fewer rows, from now on."""
        rows = slice(len(policy))
        self.gain[rows] = policy.gain.to(self.gain)
        self.push[rows] = policy.push.to(self.push)
        self.factor[rows] = torch.linalg.cholesky(policy.covariance).to(self.factor)
