"""The regulator: after each round a linear policy changes by a bounded KL, in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from worldmodel.behaviours.behaviour import Loss, ParameterGroup, Reads
from worldmodel.checks import at_least, more_than
from worldmodel.linear import LinearGaussian, Rollouts, next_policy
from worldmodel.machine import Precision
from worldmodel.models import WorldModel
from worldmodel.models.time_varying import TimeVarying
from worldmodel.models.world import Inference
from worldmodel.structs import Batch


@dataclass(frozen=True)
class LQR:
    """Settings of the linear-quadratic regulator with a bounded change."""

    needs: ClassVar[frozenset[str]] = frozenset({"time-varying policy", "fitted"})
    reads: ClassVar[Reads] = "replayed"

    kind: Literal["lqr"] = "lqr"
    bound: Annotated[float, more_than(0)] = 20.0
    """Most nats by which the trajectories of a policy differ from those of the last one. Larger:
    it improves faster, where its dynamics and cost may no longer hold."""
    strength: Annotated[float, more_than(0)] = 50.0
    """Rows that the prior of each time's dynamics counts as. Larger: fewer episodes are enough, and
    the dynamics may change less from time to time."""
    around: Annotated[int, at_least(0)] = 2
    """The prior of a time is fitted from the rows of so many times before and after it, too."""

    def build(self, model: WorldModel, discount_rate: float, precision: Precision) -> Regulator:
        return Regulator(self, model)


class Regulator:
    """Keeps nothing: the policy's numbers are buffers of the model."""

    def __init__(self, settings: LQR, model: WorldModel) -> None:
        assert isinstance(model.policy, TimeVarying)
        self.settings, self.policy = settings, model.policy
        self.first_episode = 0

    @property
    def tunes(self) -> list[nn.Parameter]:
        return []

    def groups(self) -> list[ParameterGroup]:
        return []

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        return [], {}

    def acted(self, first_episode: int) -> None:
        """It learns in ``collected``."""

    def stepped(self) -> None:
        """No gradient changes its policy."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """A checkpoint has the model's buffers."""

    def collected(self, acting: WorldModel, played: Batch) -> dict[str, float]:
        """Improve the policy by whole episodes that it has played: figures for the log.

        The rows that all of them have count. A row's cost is minus its reward.
        """
        length = min(int(played.valid.sum(1).min()), self.policy.rows + 1)
        embeds = acting.embed(played.image, played.vectors)
        latents = acting.beliefs(played.action, embeds, played.valid).features[:, :length].cpu()
        rollouts = Rollouts(
            state=latents,
            action=played.action[:, 1:length].cpu(),
            cost=-played.reward[:, 1:length].double().cpu(),
        )
        last = self.policy.read()
        parts = {f.name: getattr(last, f.name)[: length - 1] for f in dataclasses.fields(last)}
        settings = self.settings
        improved = next_policy(
            LinearGaussian(**parts),
            rollouts,
            strength=settings.strength,
            around=settings.around,
            bound=settings.bound,
        )
        self.policy.write(improved.policy)
        return {"policy_kl": improved.divergence, "cost": float(rollouts.cost.sum(1).mean())}
