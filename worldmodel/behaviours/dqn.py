"""Q-learning with replay: the value of each choice is learned from real rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.behaviours.behaviour import Loss, ParameterGroup, Reads
from worldmodel.behaviours.slow import follow, load, named
from worldmodel.behaviours.transitions import Transitions, believed, encoder_of, transitions
from worldmodel.checks import more_than
from worldmodel.machine import Precision
from worldmodel.models import WorldModel
from worldmodel.models.policy import GreedyPolicy
from worldmodel.models.world import Inference


@dataclass(frozen=True)
class DQN:
    """Settings of Q-learning (Mnih et al. 2015) with double Q (van Hasselt et al. 2016)."""

    needs: ClassVar[frozenset[str]] = frozenset({"greedy policy"})

    reads: ClassVar[Reads] = "replayed"

    kind: Literal["dqn"] = "dqn"
    tunes_encoder: bool = True
    """Whether the values' error also changes the encoder, next to the objective."""
    target_rate: Annotated[float, more_than(0, at_most=1)] = 0.01
    """How fast the slow copy of the values, which targets are made of, follows them. 1: it is the
    values themselves."""
    rate: Annotated[float, more_than(0)] = 5e-4
    """Learning rate of the values. Larger: they follow new rewards faster, and may oscillate."""

    def build(self, model: WorldModel, discount_rate: float, precision: Precision) -> QLearning:
        return QLearning(self, model, discount_rate)


class QLearning:
    """The greedy policy's values learn from themselves, one row later::

        target = reward + discount Q_slow(s', a'),   a' = argmax Q(s', .)
        loss   = huber(Q(s, a) - target)

    The fast values pick a', and the slow ones judge it (double Q): the highest of noisy values is
    too high if the same values pick and judge.
    """

    def __init__(self, settings: DQN, model: WorldModel, discount_rate: float) -> None:
        assert isinstance(model.policy, GreedyPolicy)
        self.settings, self.model, self.values = settings, model, model.policy
        self.discount_rate = discount_rate
        self.first_episode = 0
        self.slow = copy.deepcopy(self.values).requires_grad_(False)

    @property
    def tunes(self) -> list[nn.Parameter]:
        return encoder_of(self.model) if self.settings.tunes_encoder else []

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup([*self.values.parameters()], self.settings.rate)]

    def losses(
        self, seen: Inference, random: torch.Generator
    ) -> tuple[list[Loss], dict[str, Tensor]]:
        features = believed(self.model, seen, self.settings.tunes_encoder)
        rows = transitions(features, seen)
        values = (self.values(rows.before) * rows.action).sum(-1)  # [M] of what was done
        loss = functional.huber_loss(values, self.target(rows))
        into = [*self.values.parameters(), *self.tunes]
        return [Loss("critic", loss, into)], {"critic_value": values.detach().mean()}

    @torch.no_grad()
    def target(self, rows: Transitions) -> Tensor:
        """What the values should say of each row: [M]"""
        best = self.values.act(rows.after, None)  # [M, A] one-hot
        ahead = (self.slow(rows.after) * best).sum(-1)
        target: Tensor = rows.reward + self.discount_rate * rows.discount * ahead
        return target

    def acted(self, first_episode: int) -> None:
        """Nothing: rows that any policy played are learned from."""

    def stepped(self) -> None:
        follow(self.slow, self.values, self.settings.target_rate)

    def state(self) -> dict[str, Tensor]:
        return named(self.slow, "slow")

    def restore(self, state: Mapping[str, Tensor]) -> None:
        load(self.slow, "slow", state)
