"""The door out: an environment of ours as a ``gymnasium.Env``."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.contract import Environment
from worldmodel.structs import Step

MOST = 2**31


class ToGym(gymnasium.Env):  # type: ignore[misc]  # its types are not read: it may be missing
    """The row's image is the observation, in a dict where vectors stand beside it; ``info`` holds
    its discount and simulator steps.

    ``terminated`` where the task itself ended (discount 0), ``truncated`` where only the time is
    up. An episode begins from its seed: given, or drawn from gymnasium's ``np_random``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: Environment) -> None:
        self._env = env
        first = env.reset(0)
        self._image = first.image
        seen = gymnasium.spaces.Box(0, 255, self._image.shape, np.uint8)
        felt = {
            name: gymnasium.spaces.Box(-np.inf, np.inf, vector.shape, np.float32)
            for name, vector in first.vectors.items()
        }
        self.observation_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Dict({"image": seen, **felt}) if felt else seen
        )
        self.action_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Discrete(env.action_count)
            if env.action_count is not None
            else gymnasium.spaces.Box(env.action_low, env.action_high, dtype=np.float32)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        begin = int(self.np_random.integers(MOST)) if seed is None else seed
        row = self._env.reset(begin)
        return self._shown(row), _told(row)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._env.action_count is not None:
            action = np.eye(self._env.action_count, dtype=np.float32)[int(action)]
        row = self._env.step(action)
        terminated = row.is_last and row.discount == 0
        shown = self._shown(row)
        return shown, row.reward, terminated, row.is_last and not terminated, _told(row)

    def render(self) -> NDArray[np.uint8]:
        """[H, W, 3] the newest of stacked images"""
        return self._image[..., -3:].copy()

    def close(self) -> None:
        self._env.close()

    def _shown(self, row: Step) -> Any:
        """A copy: what gymnasium hands out belongs to whoever asked."""
        self._image = row.image
        return copy.deepcopy(row.observation)


def _told(row: Step) -> dict[str, Any]:
    return {"discount": row.discount, "env_steps": row.env_steps}
