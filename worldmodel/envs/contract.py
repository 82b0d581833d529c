"""What an environment is: the protocol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.structs import Step


class Environment(Protocol):
    """Gives rows: the action that was done, and what came back.

    A user's own environment needs only ``reset``, ``step`` and its actions: ``action_low`` and
    ``action_high``, or ``action_count`` where an action is one of so many choices, which ``step``
    then takes as an int. Its ``reset`` need take no seed, and its rows may leave ``action`` out;
    ``adopt`` fills in the rest. Here actions are arrays always: of a choice [A], the largest entry
    counts.
    """

    action_low: NDArray[np.float32]  # [A]
    action_high: NDArray[np.float32]  # [A]
    action_count: int | None  # A where an action is one of A choices

    def reset(self, seed: int | None = None) -> Step: ...

    def step(self, action: NDArray[np.float32]) -> Step: ...

    def close(self) -> None: ...

    def describe(self) -> dict[str, str]:
        """What a run's records say of it: task, renderer, versions."""
        ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The true quantities, for probes: nothing that learns or acts may look (``env.vectors`` is
        how a person lets them)."""
        ...
