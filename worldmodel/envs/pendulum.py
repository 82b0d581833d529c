"""``pendulum``: gymnasium's Pendulum-v1, with images that the package draws itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.settings import EnvSettings
from worldmodel.structs import Step

ACTION_REPEAT = 1
ACTION_SIZE = 1
EPISODE_STEPS = 200

# The constants of Pendulum-v1 (gymnasium, MIT licence): a rod of length and mass 1.
GRAVITY = 10.0
STEP_S = 0.05
MAX_SPEED = 8.0  # radians a second
MAX_TORQUE = 2.0
# The picture, in lengths of the rod, about as gymnasium draws it.
_HALF_SIDE = 1.3
_ROD_RADIUS = 0.1
_ROD = (204, 77, 77)
_EDGE_SAMPLES = 2  # points along each axis of a pixel, for smooth edges


class Pendulum:
    """A rod that turns around a fixed point; the torque is too weak to lift it at once.

    Angle 0 is upright, and positive angles are to the left. The reward of a simulator step is
    minus (angle² + 0.1 speed² + 0.001 torque²). An image shows the angle, and not the speed.
    """

    def __init__(self, config: EnvSettings, seed: int) -> None:
        self.action_low = np.full(ACTION_SIZE, -MAX_TORQUE, np.float32)
        self.action_high = np.full(ACTION_SIZE, MAX_TORQUE, np.float32)
        self._repeat = config.action_repeat or ACTION_REPEAT
        self._size = config.image_size
        self._seeds = np.random.default_rng(seed)
        self._angle = self._speed = 0.0
        self._steps_left = 0

    def reset(self, seed: int | None = None) -> Step:
        random = np.random.default_rng(self._seeds.integers(2**31) if seed is None else seed)
        return self.start(random.uniform(-np.pi, np.pi), random.uniform(-1, 1))

    def start(self, angle: float, speed: float) -> Step:
        """Begin an episode at this angle and speed."""
        self._angle, self._speed = float(angle), float(speed)
        self._steps_left = EPISODE_STEPS
        return Step(image=self._draw(self._angle), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        if self._steps_left == 0:
            raise RuntimeError("pendulum: the episode is over; call reset() first")
        taken = min(self._repeat, self._steps_left)
        torque, reward = float(np.asarray(action).reshape(-1)[0]), 0.0
        for _ in range(taken):
            reward -= cost(self._angle, self._speed, torque)
            self._angle, self._speed = turned(self._angle, self._speed, torque)
        self._steps_left -= taken
        return Step(
            image=self._draw(self._angle),
            reward=reward,
            is_last=self._steps_left == 0,
            env_steps=taken,
        )

    def close(self) -> None:
        """Nothing to release."""

    def describe(self) -> dict[str, str]:
        return {"task": "pendulum", "renderer": "pendulum"}

    def goal(self) -> NDArray[np.uint8]:
        """[H, W, 3] the rod upright"""
        return self._draw(0.0)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """``orientation``: cosine and sine of the angle; ``velocity``: radians a second"""
        return {
            "orientation": np.array([np.cos(self._angle), np.sin(self._angle)], np.float32),
            "velocity": np.array([self._speed], np.float32),
        }

    def _draw(self, angle: float) -> NDArray[np.uint8]:
        return picture(angle, self._size)


def turned(angle: float, speed: float, torque: float) -> tuple[float, float]:
    """Angle and speed a simulator step later."""
    torque = min(max(torque, -MAX_TORQUE), MAX_TORQUE)
    speed += (1.5 * GRAVITY * np.sin(angle) + 3.0 * torque) * STEP_S
    speed = min(max(speed, -MAX_SPEED), MAX_SPEED)
    return angle + speed * STEP_S, speed


def cost(angle: float, speed: float, torque: float) -> float:
    """What a simulator step costs that begins there; at most 16.3"""
    torque = min(max(torque, -MAX_TORQUE), MAX_TORQUE)
    from_upright = (angle + np.pi) % (2 * np.pi) - np.pi
    return float(from_upright**2 + 0.1 * speed**2 + 0.001 * torque**2)


def picture(angle: float, size: int) -> NDArray[np.uint8]:
    """[H, W, 3] a red rod on white"""
    points = size * _EDGE_SAMPLES
    axis = ((np.arange(points) + 0.5) / points * 2 - 1) * _HALF_SIDE
    left, up = -axis[None, :], -axis[:, None]
    sine, cosine = np.sin(angle), np.cos(angle)
    along = (left * sine + up * cosine).clip(0, 1)  # the nearest point of the rod
    distance = np.hypot(left - along * sine, up - along * cosine)
    inside = (distance <= _ROD_RADIUS).reshape(size, _EDGE_SAMPLES, size, _EDGE_SAMPLES)
    covered = inside.mean((1, 3))[..., None]
    drawn: NDArray[np.uint8] = (255 + (np.array(_ROD) - 255) * covered + 0.5).astype(np.uint8)
    return drawn
