"""The simulator's own sensors beside the image: what a robot knows of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.checks import ConfigError
from worldmodel.envs.contract import Environment
from worldmodel.structs import Step


class Sensing:
    """Rows of ``env`` whose vectors are its ``state``, as somebody asked with ``env.vectors``."""

    is_adopted = True

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.action_low, self.action_high = env.action_low, env.action_high
        self.action_count = env.action_count
        env.reset(0)
        if not env.state():
            raise ConfigError(
                f"env.vectors: {env.describe()['task']} has no sensors beside its images; leave"
                " env.vectors false"
            )

    def reset(self, seed: int | None = None) -> Step:
        return self._with_sensors(self._env.reset(seed))

    def step(self, action: NDArray[np.float32]) -> Step:
        return self._with_sensors(self._env.step(action))

    def close(self) -> None:
        self._env.close()

    def describe(self) -> dict[str, str]:
        return self._env.describe()

    def state(self) -> dict[str, NDArray[np.float32]]:
        return self._env.state()

    def _with_sensors(self, row: Step) -> Step:
        return replace(row, vectors={**row.vectors, **self._env.state()})
