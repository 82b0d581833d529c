"""An environment of ours as a ``gymnasium.Env``."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.contract import Environment
from worldmodel.images import shown
from worldmodel.structs import Step

SEEDS = 2**31


class ToGym(gymnasium.Env):  # type: ignore[misc]  # its types are not read: it may be missing
    """Wraps an environment: the row's image is the observation, or a dict of image and vectors.

    ``info`` holds the row's discount and simulator steps. ``terminated`` is true if the task itself
    ended (discount 0), ``truncated`` if only the time is up. An episode begins from a seed that is
    given or drawn from gymnasium's ``np_random``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: Environment) -> None:
        self._env = env
        first = env.reset(0)
        self._row = first
        image = gymnasium.spaces.Box(0, 255, first.image.shape, np.uint8)
        vectors = {
            name: gymnasium.spaces.Box(-np.inf, np.inf, vector.shape, np.float32)
            for name, vector in first.vectors.items()
        }
        self.observation_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Dict({"image": image, **vectors}) if vectors else image
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
        begin = int(self.np_random.integers(SEEDS)) if seed is None else seed
        row = self._env.reset(begin)
        return self._observation(row), _info(row)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._env.action_count is not None:
            action = np.eye(self._env.action_count, dtype=np.float32)[int(action)]
        row = self._env.step(action)
        terminated = row.is_last and row.discount == 0
        observation = self._observation(row)
        return observation, row.reward, terminated, row.is_last and not terminated, _info(row)

    def render(self) -> NDArray[np.uint8]:
        """[H, W', 3] the newest of stacked images, the cameras side by side"""
        image, cameras = self._row.image, self._row.cameras
        of_a_moment = sum(shape[-1] for shape in cameras.values()) or image.shape[-1]
        return shown(image, image.shape[-1] // of_a_moment, cameras).copy()

    def close(self) -> None:
        self._env.close()

    def _observation(self, row: Step) -> Any:
        """A copy, because callers of gymnasium may change what they get."""
        self._row = row
        return copy.deepcopy(row.observation)


def _info(row: Step) -> dict[str, Any]:
    return {"discount": row.discount, "env_steps": row.env_steps}
