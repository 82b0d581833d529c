"""A wrapper that changes each row of an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.contract import Environment
from worldmodel.structs import Step

Change = Callable[[Environment, Step], Step]
"""Takes the environment and its newest row; returns the changed row."""


class Altered:
    """Wraps ``env`` and passes each of its rows through ``change``."""

    is_adopted = True

    def __init__(self, env: Environment, change: Change) -> None:
        self.env = env
        self._change = change
        self.action_low, self.action_high = env.action_low, env.action_high
        self.action_count = env.action_count

    def reset(self, seed: int | None = None) -> Step:
        return self._change(self.env, self.env.reset(seed))

    def step(self, action: NDArray[np.float32]) -> Step:
        return self._change(self.env, self.env.step(action))

    def close(self) -> None:
        self.env.close()

    def describe(self) -> dict[str, str]:
        return self.env.describe()

    def goal(self) -> Any:
        return self.env.goal()

    def state(self) -> dict[str, NDArray[np.float32]]:
        return self.env.state()
