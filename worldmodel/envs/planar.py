"""``planar``, Embed to Control's world: a point among six round obstacles, seen from above."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.settings import EnvSettings
from worldmodel.structs import Step

ACTION_REPEAT = 1
ACTION_SIZE = 2
EPISODE_STEPS = 40

# As published (Watter et al. 2015, arXiv 1506.07365), in units of a pixel of its 40x40 images.
SIDE = 40.0
OBSTACLES = np.array(
    [(20.5, 5.5), (20.5, 13.5), (20.5, 27.5), (20.5, 35.5), (10.5, 20.5), (30.5, 20.5)]
)
OBSTACLE_RADIUS = 2.5
STEP = 3.0  # the largest move of a step along each axis
AGENT_RADIUS = 2.0
GOAL_DISTANCE = 2.0  # at which the goal counts as reached
_MARGIN = AGENT_RADIUS  # positions lie in [margin, SIDE - margin], so all of the agent is seen
_CHECKS = 12  # points of a move that are looked at: an obstacle is never jumped over
_START_DISTANCE = 10.0  # least distance from the start to the goal


class Planar:
    """The action moves the point by up to three pixels along each axis; it has no velocity.

    A move that would touch an obstacle is not made, and a wall stops it. The reward of a step is 1
    within GOAL_DISTANCE of the goal. The images do not show the goal: ``goal`` gives its own.
    The world is drawn at any ``image_size``: at 40 a pixel is one unit.
    """

    def __init__(self, config: EnvSettings, seed: int) -> None:
        self.action_low = np.full(ACTION_SIZE, -STEP, np.float32)
        self.action_high = np.full(ACTION_SIZE, STEP, np.float32)
        self._repeat = config.action_repeat or ACTION_REPEAT
        self._seeds = np.random.default_rng(seed)
        self._position = self._goal = np.zeros(2)
        self._steps_left = 0
        self._pixel = SIDE / config.image_size
        self._axis = (np.arange(config.image_size) + 0.5) * self._pixel
        self._ground = np.zeros((config.image_size, config.image_size))
        for obstacle in OBSTACLES:
            self._ground += self._disk(obstacle, OBSTACLE_RADIUS)

    def reset(self, seed: int | None = None) -> Step:
        random = np.random.default_rng(self._seeds.integers(2**31) if seed is None else seed)
        self._goal = _free_position(random)
        self._position = _free_position(random)
        while np.linalg.norm(self._position - self._goal) < _START_DISTANCE:
            self._position = _free_position(random)
        self._steps_left = EPISODE_STEPS
        return Step(image=self._draw(self._position), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        if self._steps_left == 0:
            raise RuntimeError("planar: the episode is over; call reset() first")
        taken = min(self._repeat, self._steps_left)
        reward = 0.0
        for _ in range(taken):
            self._position = moved(self._position, np.asarray(action, np.float64))
            reward += float(np.linalg.norm(self._position - self._goal) <= GOAL_DISTANCE)
        self._steps_left -= taken
        return Step(
            image=self._draw(self._position),
            reward=reward / self._repeat,
            is_last=self._steps_left == 0,
            env_steps=taken,
        )

    def close(self) -> None:
        """Nothing to release."""

    def describe(self) -> dict[str, str]:
        return {"task": "planar", "renderer": "planar"}

    def goal(self) -> NDArray[np.uint8]:
        """[H, W, 3] the world with the point at the goal"""
        return self._draw(self._goal)

    def state(self) -> dict[str, NDArray[np.float32]]:
        return {
            "position": self._position.astype(np.float32),
            "goal": self._goal.astype(np.float32),
        }

    def _draw(self, position: NDArray[np.float64]) -> NDArray[np.uint8]:
        """[H, W, 3] obstacles and point, white on black, as published"""
        grey = np.maximum(self._ground, self._disk(position, AGENT_RADIUS)).clip(0, 1)
        return np.repeat((255 * grey + 0.5).astype(np.uint8)[..., None], 3, -1)

    def _disk(self, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
        """[H, W] how much of each pixel a disk covers; x to the right, y down"""
        across, down = self._axis - centre[0], self._axis - centre[1]
        distance = np.hypot(down[:, None], across[None, :])
        covered: NDArray[np.float64] = ((radius - distance) / self._pixel + 0.5).clip(0, 1)
        return covered


def moved(position: NDArray[np.float64], move: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2] the position after a move [2], which is not made if it would touch an obstacle"""
    shares = np.linspace(0, 1, _CHECKS + 1)[1:, None]
    way = (position + shares * move.clip(-STEP, STEP)).clip(_MARGIN, SIDE - _MARGIN)
    return way[-1] if all(is_free(point) for point in way) else position


def is_free(position: NDArray[np.float64]) -> bool:
    """Whether the point touches no obstacle there."""
    distances = np.linalg.norm(OBSTACLES - position, axis=1)
    return bool((distances >= OBSTACLE_RADIUS + AGENT_RADIUS).all())


def _free_position(random: np.random.Generator) -> NDArray[np.float64]:
    while True:
        position = random.uniform(_MARGIN, SIDE - _MARGIN, 2)
        if is_free(position):
            return position
