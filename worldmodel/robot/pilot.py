"""The pilot: an agent with its belief and its plan, which answers rows in order."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldmodel.images import ImageFit
from worldmodel.limits import Limits
from worldmodel.robot.actor import Actor, ActorsPlan, Belief, refuse_choices, require_action_size
from worldmodel.robot.messages import Answer, Row

# The shortest deadline of a plan, after observing took all the time: the policy's answer, if any.
SHORTEST_MS = 1e-3


class Pilot:
    """Consumes rows one after the other, and keeps the agent's belief and plan.

    ``limits`` hold inside the search. Their change is measured from the newest row's action, or if
    that is unknown from their own ``last``.
    """

    def __init__(
        self, agent: Actor, deadline_ms: float | None = None, limits: Limits | None = None
    ) -> None:
        refuse_choices(agent)
        if limits is not None and limits.last is not None:
            require_action_size(agent.action_size, np.size(limits.last))
        self.agent = agent
        self.deadline_ms = deadline_ms  # of a whole answer: observing, then the search
        self.limits = limits
        self._belief: Belief | None = None
        self._plan: ActorsPlan | None = None
        self._rows_since_plan = 0

    @property
    def fitting(self) -> ImageFit:
        return self.agent.fitting

    @property
    def vector_sizes(self) -> dict[str, int]:
        return dict(self.agent.vector_sizes)

    @property
    def action_size(self) -> int:
        return self.agent.action_size

    def consume(self, rows: Sequence[Row]) -> Answer:
        """Observe every row, then plan if the newest has an image. Never raises."""
        begun = time.perf_counter()
        number = rows[-1].number
        try:
            for row in rows:
                self._observe(row)
            if self._belief is None or rows[-1].image is None:
                return Answer(number, None)
            if not self.agent.is_finite(self._belief):
                raise ValueError("belief: expected finite numbers, as broken weights do not give")
            left = None
            if self.deadline_ms is not None:
                left = max(SHORTEST_MS, self.deadline_ms - (time.perf_counter() - begun) * 1e3)
            plan: ActorsPlan = self.agent.plan(
                self._belief,
                previous=self._shifted(),
                seed=number,
                deadline_ms=left,
                limits=self._limits_after(rows[-1].action),
            )
            origin, took_ms = plan.origin, plan.milliseconds
            if origin == "previous":  # there was no time to plan: the last plan stays
                return Answer(number, None, origin=origin, milliseconds=took_ms)
            actions = np.asarray(plan.sequence, np.float32)
            value = float(plan.value) if origin == "search" else 0.0  # a policy has no value
            answer = Answer(number, actions, value, origin=origin, milliseconds=took_ms)
        except Exception as error:  # the planner may raise anything; the controller counts it
            self._forget()
            return Answer(number, None, error=f"{type(error).__name__}: {error}")
        self._plan = plan
        self._rows_since_plan = 0
        if not answer.is_finite:
            self._forget()  # the plan is broken, and the belief may be
        return answer

    def warm_up(self) -> None:
        """Make the first, slow calls before the control loop begins. Raises the agent's errors."""
        deadline_ms, self.deadline_ms = self.deadline_ms, None
        still = {name: np.zeros(size, np.float32) for name, size in self.vector_sizes.items()}
        row = Row(0, None, np.zeros(self.fitting.image, np.uint8), vectors=still)
        for _ in range(2):
            answer = self.consume([row])
            if answer.error is not None:
                raise RuntimeError(answer.error)
            if answer.actions is None or not answer.is_finite:
                raise RuntimeError("plan: expected finite numbers, as broken weights do not give")
        self._forget()
        self.agent.warm_up()
        self.deadline_ms = deadline_ms

    def _limits_after(self, action: NDArray[np.float32] | None) -> Limits | None:
        limits = self.limits
        return limits if limits is None or action is None else limits.after(action)

    def _observe(self, row: Row) -> None:
        if row.begins:
            self._forget()
        self._rows_since_plan += 1
        action = self.agent.no_action() if row.action is None else row.action
        observation = row.observation
        if observation is not None:
            belief = self.agent.initial() if self._belief is None else self._belief
            self._belief = self.agent.observe(belief, action, observation)
        elif self._belief is not None:
            self._belief = self.agent.imagine(self._belief, action)

    def _shifted(self) -> ActorsPlan | None:
        """The last plan, shifted to one row ago: the agent shifts it by one row itself."""
        plan = self._plan
        if plan is None or self._rows_since_plan >= len(plan.sequence):
            return None
        shifted: ActorsPlan = plan.after(self._rows_since_plan - 1)
        return shifted

    def _forget(self) -> None:
        self._belief = self._plan = None
        self._rows_since_plan = 0


class InlineWorker:
    """Plans in this process, inside ``hand_over``: a planner that hangs also hangs the caller."""

    def __init__(self, agent: Actor, limits: Limits | None = None) -> None:
        self._pilot = Pilot(agent, limits=limits)
        self._pilot.warm_up()
        self._answers: list[Answer] = []

    @property
    def fitting(self) -> ImageFit:
        return self._pilot.fitting

    @property
    def vector_sizes(self) -> dict[str, int]:
        return self._pilot.vector_sizes

    @property
    def action_size(self) -> int:
        return self._pilot.action_size

    @property
    def counts(self) -> dict[str, int]:
        return {}

    def hand_over(self, row: Row) -> None:
        self._answers.append(self._pilot.consume([row]))

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        pass
