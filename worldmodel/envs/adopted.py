"""Adopting: a user's environment, or a gymnasium one, becomes an ``Environment``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.actions import actions_of, wrong_actions
from worldmodel.envs.contract import Environment
from worldmodel.envs.images import CameraImages
from worldmodel.envs.settings import EnvSettings
from worldmodel.structs import Step

_DEFAULTS = EnvSettings()


class Adopted:
    """Wraps a user's environment: it takes an agent's actions and fills every field of its rows.

    The agent's action is made legal (clipped to [-1, 1], or one-hot at its largest entry) and
    translated for the environment. The row holds the legal action that was done: the one that the
    environment reports (``Step.action``, in its own units), if it reports one. Row 0 holds zeros,
    because nothing was done yet. ``settings`` say to which shape images are fitted, and how many
    are stacked; without them an image keeps its shape.
    """

    is_adopted = True

    def __init__(self, env: Any, settings: EnvSettings | None = None) -> None:
        wrong = wrong_face(env)
        if wrong:
            raise ValueError("; ".join(wrong))
        self._env = env
        self._takes_seed = _takes_seed(env.reset)
        self._images = CameraImages(settings)
        self.actions = actions_of(env)
        self.action_count = self.actions.count
        self.action_low = self.actions.agent_low
        self.action_high = self.actions.agent_high

    def reset(self, seed: int | None = None) -> Step:
        row: Step = self._env.reset(seed=seed) if self._takes_seed else self._env.reset()
        image = self._images.start(row.image)
        return replace(self._filled(row, image, np.zeros_like(self.action_low)), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        asked = self.actions.legal(_asked(action, self.action_low.shape))
        row: Step = self._env.step(self.actions.scale(asked))
        done = asked if row.action is None else self.actions.read_back(row.action)
        return self._filled(row, self._images.push(row.image), done)

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()

    def describe(self) -> dict[str, str]:
        if not hasattr(self._env, "describe"):
            return {"task": type(self._env).__name__}
        described: dict[str, str] = self._env.describe()
        return described

    def goal(self) -> NDArray[np.uint8] | None:
        given = self._env.goal() if hasattr(self._env, "goal") else None
        return None if given is None else self._images.at_rest(given)

    def state(self) -> dict[str, NDArray[np.float32]]:
        if not hasattr(self._env, "state"):
            return {}
        true: dict[str, NDArray[np.float32]] = self._env.state()
        return true

    def _filled(self, row: Step, image: NDArray[np.uint8], action: NDArray[np.float32]) -> Step:
        return replace(
            row,
            image=image,
            reward=float(row.reward),
            discount=float(row.discount),
            action=action,
            vectors={name: np.asarray(vector, np.float32) for name, vector in row.vectors.items()},
            cameras=self._images.cameras,
        )


def adopt(env: Any, config: EnvSettings | None = None) -> Environment:
    """Return ``env`` as an ``Environment``: see ``Adopted``.

    One that is adopted already is returned as it is. A ``gymnasium.Env`` is wrapped first; without
    ``config`` it has the default settings.
    """
    if getattr(env, "is_adopted", False):
        adopted: Environment = env
        return adopted
    inner = opened(env, config or _DEFAULTS)
    return Adopted(inner, config if inner is env else config or _DEFAULTS)


def opened(env: Any, config: EnvSettings = _DEFAULTS) -> Any:
    """Wrap a ``gymnasium.Env``; return anything else as it is."""
    gymnasium = sys.modules.get("gymnasium")  # imported if there is an environment
    if gymnasium is None or not isinstance(env, gymnasium.Env):
        return env
    from worldmodel.envs.from_gym import FromGym

    return FromGym(env, config)


def wrong_face(env: Any) -> list[str]:
    """A sentence for each mistake that can be found without a reset."""
    wrong = [
        f"{name}: {type(env).__name__} has no such method"
        for name in ("reset", "step")
        if not callable(getattr(env, name, None))
    ]
    return wrong + wrong_actions(env)


def _asked(action: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    asked = np.asarray(action, np.float32)
    if asked.shape != shape:
        raise ValueError(f"action: expected shape {shape}, got {asked.shape}")
    if not np.isfinite(asked).all():
        raise ValueError(f"action: expected finite numbers, got {asked.tolist()}")
    return asked


def _takes_seed(reset: Callable[..., Step]) -> bool:
    parameters = inspect.signature(reset).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return anything or "seed" in parameters
