"""Dreaming: rows that the model imagines, one for each action of a person or of the agent."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis.starts import Starts
from worldmodel.checks import ConfigError
from worldmodel.inputs import as_numbers
from worldmodel.models.heads import Constant
from worldmodel.structs import Latent, Plan, at

PLAN_MS = 80.0  # for a plan, where no policy was learned: less than the time of an image


@dataclass(frozen=True)
class Row:
    """An imagined row."""

    belief: Latent  # [1]
    action: NDArray[np.float32]  # [A] that led to it
    image: NDArray[np.uint8]  # [H, W, 3] the model's drawing
    reward: float | None  # None if the model learned none; so are the next two
    value: float | None
    goes_on: float | None  # the probability that the task has not ended here
    plan: Plan | None = None  # of the agent, if it planned this action


class Dream:
    """Rows after rows of imagination; the caller keeps the row, so that many can dream at once.

    The model imagines the mean of its distributions: the same actions from the same start give the
    same images, those of ``model.imagine``.
    """

    def __init__(self, agent: Agent, starts: Starts) -> None:
        agent.model.require_decoder()
        self.agent, self.starts, self.spec = agent, starts, agent.model.spec
        self._heads = {
            "reward": agent.model.reward,
            "value": agent.model.slow_value,  # which plans use too
            "goes_on": agent.model.discount,
        }
        self.learned = {name: not isinstance(head, Constant) for name, head in self._heads.items()}

    def begin(self, start: int) -> Row:
        """The row at a start, before any action."""
        count = len(self.starts.images)
        if not 0 <= start < count:
            raise ConfigError(f"start: expected 0 to {count - 1}, got {start}")
        with torch.inference_mode():
            return self._row(at(self.starts.beliefs, slice(start, start + 1)), self._rest(), None)

    @torch.inference_mode()
    def step(self, row: Row, action: Sequence[float] | NDArray[np.float32]) -> Row:
        """The next row after an ``action`` [A] in [-1, 1], or one of A choices, one-hot."""
        return self._imagined(row, self._checked(action), None)

    @torch.inference_mode()
    def let_act(self, row: Row) -> Row:
        """The next row after the agent's own action: its policy's, or without a policy a plan's."""
        agent = self.agent
        if agent.model.policy is not None:
            return self._imagined(row, agent.act(row.belief)[0], None)
        plan = self._planner.plan(row.belief, previous=row.plan, deadline_ms=PLAN_MS)
        return self._imagined(row, plan.first[0], plan)

    @functools.cached_property
    def _planner(self) -> Agent:
        """The agent after it has measured its plans, which a deadline depends on."""
        self.agent.warm_up()
        return self.agent

    def _imagined(self, row: Row, action: NDArray[np.float32], plan: Plan | None) -> Row:
        actions = torch.as_tensor(action, device=self.agent.device)[None, None]  # [1, 1, A]
        imagined = self.agent.model.imagine(row.belief, actions, None)  # [1, 1]
        return self._row(at(imagined, (slice(None), 0)), action, plan)

    def _row(self, belief: Latent, action: NDArray[np.float32], plan: Plan | None) -> Row:
        features = belief.features
        image = self.agent.model.decode(belief)[0].cpu().numpy()
        means = {
            name: float(head(features)) if self.learned[name] else None
            for name, head in self._heads.items()
        }
        return Row(belief, action, self.spec.shown(image), plan=plan, **means)

    def _rest(self) -> NDArray[np.float32]:
        return np.zeros(self.spec.action_size, np.float32)

    def _checked(self, action: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float32]:
        """The action, clipped as an environment clips it; of choices, the largest number's."""
        size = self.spec.action_size
        numbers = as_numbers("action", np.asarray(action, np.float32), (size,), torch.device("cpu"))
        if self.spec.has_choices:
            one_hot: NDArray[np.float32] = np.eye(size, dtype=np.float32)[int(numbers.argmax())]
            return one_hot
        clipped: NDArray[np.float32] = numbers.clamp(-1.0, 1.0).numpy()
        return clipped
