"""An environment whose rows are changed on their way out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.contract import Environment
from worldmodel.structs import Step

Change = Callable[[Environment, Step], Step]
"""What becomes of a row that the environment has just given."""


class Altered:
    """``env``, each of whose rows goes through ``change``."""

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

    def state(self) -> dict[str, NDArray[np.float32]]:
        return self.env.state()
