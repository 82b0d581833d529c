"""The protocol of an environment."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.structs import Step


class Environment(Protocol):
    """Answers ``reset`` and ``step`` with a row: the action that was done, and what came back.

    A user's own environment needs only ``reset``, ``step`` and its actions: ``action_low`` and
    ``action_high``, or ``action_count`` if an action is one of that many choices, which ``step``
    then takes as an int. Its ``reset`` may take no seed, and its rows may leave ``action`` out:
    ``adopt`` fills in the rest. In this protocol actions are arrays always; the largest entry of a
    choice's array [A] is the choice.
    """

    action_low: NDArray[np.float32]  # [A]
    action_high: NDArray[np.float32]  # [A]
    action_count: int | None  # A if an action is one of A choices

    def reset(self, seed: int | None = None) -> Step: ...

    def step(self, action: NDArray[np.float32]) -> Step: ...

    def close(self) -> None: ...

    def describe(self) -> dict[str, str]:
        """Task, renderer and versions, for the records of a run."""
        ...

    def goal(self) -> Any:
        """The image of the present episode's goal, as a row has it; None if the task has none."""
        ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The true state by name, for probes.

        Nothing that learns or acts may read it, unless the setting ``env.vectors`` allows it.
        """
        ...
