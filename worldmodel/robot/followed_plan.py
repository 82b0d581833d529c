"""The plan that a controller follows: the newest one that was made from a recent image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.robot.messages import Answer


@dataclass(frozen=True)
class _Plan:
    """A plan whose actions may be sent to the motor."""

    number: int  # of the step whose image it was made from
    taken_at: float  # when that image was taken
    actions: NDArray[np.float32]  # [L, A]


class FollowedPlan:
    """Keeps the newest plan of the planner, and gives its action for each step.

    A plan belongs to the step of its image: its action k is meant for k steps later. It is
    followed while that image is no older than ``max_age_s``.
    """

    def __init__(self, action_size: int, max_age_s: float) -> None:
        self._action_size = action_size
        self._max_age_s = max_age_s
        self._taken_at: dict[int, float] = {}  # of the images young enough to plan from, by step
        self._plan: _Plan | None = None

    def note_image(self, number: int, taken_at: float) -> None:
        """Remember when the image of a step was taken."""
        self._taken_at[number] = taken_at

    def drop_old_images(self, now: float) -> None:
        oldest = now - self._max_age_s
        self._taken_at = {n: taken for n, taken in self._taken_at.items() if taken >= oldest}

    def clear(self) -> None:
        """Forget plan and images: their age is not known any more."""
        self._plan = None
        self._taken_at.clear()

    def offer(self, answer: Answer) -> bool:
        """Take the plan of an answer if it is newer; return False if it is not a valid plan."""
        if answer.actions is None:
            return True
        if not self._is_plan(answer):
            return False
        taken_at = self._taken_at.get(answer.number)
        is_newer = self._plan is None or answer.number > self._plan.number
        if taken_at is not None and is_newer:
            self._plan = _Plan(answer.number, taken_at, answer.actions)
        return True

    def action(self, number: int, now: float) -> tuple[int, NDArray[np.float32]] | None:
        """How many steps ago the plan's image came, and its action [A] for this step."""
        plan = self._plan
        if plan is None or now - plan.taken_at > self._max_age_s:
            return None
        steps = number - plan.number
        return (steps, plan.actions[steps]) if steps < len(plan.actions) else None

    def _is_plan(self, answer: Answer) -> bool:
        actions: object = answer.actions
        return (
            isinstance(actions, np.ndarray)
            and actions.dtype.kind == "f"
            and actions.ndim == 2
            and actions.shape[0] > 0
            and actions.shape[1] == self._action_size
            and answer.is_finite
        )
