"""The levels of a controller: where its action comes from, the best source that is possible."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.robot.followed_plan import FollowedPlan

Level = Literal["plan", "shifted", "hold", "stop"]
LEVELS: tuple[Level, ...] = ("plan", "shifted", "hold", "stop")


class Levels:
    """Chooses the level of each step: the first that is possible.

    Without a plan that is young enough it is ``hold`` for at most ``max_age_s``, and then ``stop``
    until ``arm`` is called.
    """

    def __init__(self, followed: FollowedPlan, max_age_s: float) -> None:
        self._followed = followed
        self._max_age_s = max_age_s
        self._followed_at: float | None = None  # when the action last came from a plan
        self.is_armed = True

    def arm(self) -> None:
        """Leave ``stop``; the time of holding begins again."""
        if not self.is_armed:
            self._followed_at = None
            self.is_armed = True

    def stop(self) -> None:
        """Stay in ``stop`` until ``arm`` is called."""
        self.is_armed = False

    def choose(self, number: int, now: float) -> tuple[Level, NDArray[np.float32] | None]:
        """The level of step ``number``, and the plan's action [A] if it comes from a plan."""
        if not self.is_armed:
            return "stop", None
        followed = self._followed.action(number, now)
        if followed is not None:
            self._followed_at = now
            steps, action = followed
            return ("plan" if steps == 0 else "shifted"), action
        if self._followed_at is None:  # at the start, or just armed
            self._followed_at = now
        if now - self._followed_at <= self._max_age_s:
            return "hold", None
        self.stop()
        return "stop", None
