"""``toy``, a task without a simulator: bring a gliding point to a goal and hold it there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.settings import EnvSettings
from worldmodel.structs import Step

ACTION_REPEAT = 2
ACTION_SIZE = 2
EPISODE_STEPS = 160  # simulator steps: 80 rows at the default repeat

# Chosen so that a policy without memory fails: who pushes towards the goal without knowing the
# velocity overshoots and circles it for most of the episode (tests/test_envs.py has both).
_SECONDS = 0.05  # of a simulator step
_PUSH = 2.0  # acceleration of a full action
_DRAG = 0.1  # share of the velocity lost in a second
_FIELD = 1.0  # positions lie in [-1, 1] x [-1, 1]; the point bounces off the walls
_REACH = 0.2  # distance at which the reward is exp(-1/2)
_START_DISTANCE = 0.8
_START_SPEED = 0.5
_VIEW = 1.15  # half the width of the view
_POINT_RADIUS, _GOAL_RADIUS = 0.12, 0.2
_GROUND, _GOAL, _POINT = (
    np.array(colour, np.float32) for colour in ((24, 28, 48), (40, 140, 90), (255, 230, 120))
)


class Toy:
    """A point on a plane, accelerated by the action; no single image shows its velocity.

    The reward of a simulator step is ``exp(-(distance to the goal / reach)^2 / 2)``, divided by
    the action repeat so that a row's reward stays in [0, 1] like the step's.
    """

    def __init__(self, config: EnvSettings, seed: int) -> None:
        self.action_low = -np.ones(ACTION_SIZE, np.float32)
        self.action_high = np.ones(ACTION_SIZE, np.float32)
        self._repeat = config.action_repeat or ACTION_REPEAT
        self._size = config.image_size
        self._seeds = np.random.default_rng(seed)
        self._position = self._velocity = self._goal = np.zeros(2)
        self._steps_left = 0
        pixel = 2 * _VIEW / config.image_size
        self._pixel = pixel
        self._axis = ((np.arange(config.image_size) + 0.5) * pixel - _VIEW).astype(np.float32)
        self._ground = np.zeros((config.image_size, config.image_size, 3), np.float32)

    def reset(self, seed: int | None = None) -> Step:
        random = np.random.default_rng(self._seeds.integers(2**31) if seed is None else seed)
        self._goal = random.uniform(-0.6, 0.6, 2)
        self._position = random.uniform(-0.9, 0.9, 2)
        while np.linalg.norm(self._position - self._goal) < _START_DISTANCE:
            self._position = random.uniform(-0.9, 0.9, 2)
        angle = random.uniform(0, 2 * np.pi)
        self._velocity = _START_SPEED * np.array([np.cos(angle), np.sin(angle)])
        self._steps_left = EPISODE_STEPS
        flat = np.broadcast_to(_GROUND, (self._size, self._size, 3))
        self._ground = _blend(flat, _GOAL, self._disk(self._goal, _GOAL_RADIUS))
        return Step(image=self._draw(), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        if self._steps_left == 0:
            raise RuntimeError("toy: the episode is over; call reset() first")
        push = _PUSH * np.asarray(action, np.float64)
        taken = min(self._repeat, self._steps_left)
        reward = 0.0
        for _ in range(taken):
            self._velocity = self._velocity * (1 - _DRAG * _SECONDS) + push * _SECONDS
            self._position = self._position + self._velocity * _SECONDS
            hit = np.abs(self._position) > _FIELD
            self._velocity = np.where(hit, -np.sign(self._position), 1) * np.where(
                hit, np.abs(self._velocity), self._velocity
            )
            self._position = self._position.clip(-_FIELD, _FIELD)
            apart = self._position - self._goal
            reward += float(np.exp(-(apart @ apart) / (2 * _REACH**2)))
        self._steps_left -= taken
        return Step(
            image=self._draw(),
            reward=reward / self._repeat,
            is_last=self._steps_left == 0,
            env_steps=taken,
        )

    def close(self) -> None:
        """Nothing to release."""

    def describe(self) -> dict[str, str]:
        return {"task": "toy", "renderer": "toy"}

    def goal(self) -> NDArray[np.uint8]:
        """[H, W, 3] the point at rest on the goal"""
        image = _blend(self._ground, _POINT, self._disk(self._goal, _POINT_RADIUS))
        return (image + 0.5).astype(np.uint8)

    def state(self) -> dict[str, NDArray[np.float32]]:
        return {
            "position": self._position.astype(np.float32),
            "velocity": self._velocity.astype(np.float32),
            "goal": self._goal.astype(np.float32),
        }

    def _draw(self) -> NDArray[np.uint8]:
        """[H, W, 3]"""
        image = _blend(self._ground, _POINT, self._disk(self._position, _POINT_RADIUS))
        return (image + 0.5).astype(np.uint8)

    def _disk(self, centre: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
        """[H, W] how much of each pixel a disk covers; x to the right, y up."""
        x = self._axis - np.float32(centre[0])
        y = -self._axis - np.float32(centre[1])
        distance = np.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
        covered: NDArray[np.float32] = ((radius - distance) / self._pixel + 0.5).clip(0, 1)
        return covered


def _blend(
    under: NDArray[np.float32], colour: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[H, W, 3]"""
    return under + share[..., None] * (colour - under)
