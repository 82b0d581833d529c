"""What an environment is: the protocol, the wrapper that adopts anybody's, the checker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.structs import Step


class Environment(Protocol):
    """Gives rows: the action that was done, and what came back.

    A user's own environment needs only the first four, its ``reset`` need take no seed, and its
    rows may leave ``action`` out; ``adopt`` fills in the rest.
    """

    action_low: NDArray[np.float32]  # [A]
    action_high: NDArray[np.float32]  # [A]

    def reset(self, seed: int | None = None) -> Step: ...

    def step(self, action: NDArray[np.float32]) -> Step: ...

    def close(self) -> None: ...

    def describe(self) -> dict[str, str]:
        """What a run's records say of it: task, renderer, versions."""
        ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The true quantities, for probes: nothing that learns or acts may look."""
        ...


class Adopted:
    """Anybody's environment with actions in [-1, 1] and every field of its rows filled.

    The agent's action is clipped to [-1, 1] and scaled to the bounds of the environment; the row
    holds the normalised action that was done, which is what the environment says was done
    (``Step.action``, in its own units) where it says so.
    """

    def __init__(self, env: Any) -> None:
        wrong = _wrong_face(env)
        if wrong:
            raise ValueError("; ".join(wrong))
        self._env = env
        self._low = np.asarray(env.action_low, np.float32)
        self._high = np.asarray(env.action_high, np.float32)
        self._half_span = (self._high - self._low) / 2
        self._takes_seed = _takes_seed(env.reset)
        self.action_low = -np.ones_like(self._low)
        self.action_high = np.ones_like(self._high)

    def reset(self, seed: int | None = None) -> Step:
        row: Step = self._env.reset(seed=seed) if self._takes_seed else self._env.reset()
        return replace(
            row,
            reward=float(row.reward),
            discount=float(row.discount),
            action=np.zeros_like(self._low),
            env_steps=0,
        )

    def step(self, action: NDArray[np.float32]) -> Step:
        asked = np.asarray(action, np.float32)
        if asked.shape != self._low.shape:
            raise ValueError(f"action: expected shape {self._low.shape}, got {asked.shape}")
        if not np.isfinite(asked).all():
            raise ValueError(f"action: expected finite numbers, got {asked.tolist()}")
        asked = asked.clip(-1, 1)
        row: Step = self._env.step(self._low + (asked + 1) * self._half_span)
        done = asked if row.action is None else self._normalise(row.action)
        return replace(row, reward=float(row.reward), discount=float(row.discount), action=done)

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()

    def describe(self) -> dict[str, str]:
        if hasattr(self._env, "describe"):
            described: dict[str, str] = self._env.describe()
            return described
        return {"task": type(self._env).__name__}

    def state(self) -> dict[str, NDArray[np.float32]]:
        if hasattr(self._env, "state"):
            true: dict[str, NDArray[np.float32]] = self._env.state()
            return true
        return {}

    def _normalise(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        done = (np.asarray(action, np.float32) - self._low) / self._half_span - 1
        return done.clip(-1, 1)


def adopt(env: Any) -> Environment:
    """``env`` as the loop uses it: see ``Adopted``; one that is adopted already stays as it is."""
    return env if isinstance(env, Adopted) else Adopted(env)


def _takes_seed(reset: Callable[..., Step]) -> bool:
    parameters = inspect.signature(reset).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return anything or "seed" in parameters


def _wrong_face(env: Any) -> list[str]:
    """Sentences on what can be seen without a reset."""
    wrong = [
        f"{name}: {type(env).__name__} has no such method"
        for name in ("reset", "step")
        if not callable(getattr(env, name, None))
    ]
    bounds = {}
    for name in ("action_low", "action_high"):
        if not hasattr(env, name):
            wrong.append(f"{name}: {type(env).__name__} has none; expected an array of shape [A]")
            continue
        bound = np.asarray(getattr(env, name))
        if bound.ndim != 1 or bound.size == 0 or not np.issubdtype(bound.dtype, np.number):
            wrong.append(f"{name}: expected numbers [A], got {bound.dtype} {bound.shape}")
        elif not np.isfinite(bound).all():
            wrong.append(f"{name}: expected finite numbers, got {bound.tolist()}")
        else:
            bounds[name] = bound
    if len(bounds) == 2:
        low, high = bounds["action_low"], bounds["action_high"]
        if low.shape != high.shape:
            wrong.append(f"action_high: expected the shape of action_low {low.shape}")
        elif not (low < high).all():
            wrong.append("action_high: expected more than action_low in every entry")
    return wrong


def check_env(env: Any, rows: int = 20) -> None:
    """Plays a few rows with random actions; ``ValueError`` with a sentence for each thing wrong."""
    wrong = _wrong_face(env)
    if not wrong:
        wrong = _wrong_rows(env, rows)
    if wrong:
        raise ValueError(f"{type(env).__name__} is not an environment:\n  " + "\n  ".join(wrong))


def _wrong_rows(env: Any, rows: int) -> list[str]:
    random = np.random.default_rng(0)
    low = np.asarray(env.action_low, np.float32)
    high = np.asarray(env.action_high, np.float32)
    first = env.reset()
    wrong = _wrong_row("reset", first, low, high)
    if not isinstance(first, Step):
        return wrong
    if first.reward != 0:
        wrong.append(f"reset: expected reward 0 in the first row, got {first.reward}")
    if first.is_last:
        wrong.append("reset: the first row says is_last; expected at least one step")
    row = first
    for _ in range(rows):
        if row.is_last:
            break
        row = env.step(random.uniform(low, high).astype(np.float32))
        wrong += _wrong_row("step", row, low, high)
        if not isinstance(row, Step):
            break
        if np.shape(row.image) != np.shape(first.image):
            wrong.append(
                f"step: image changes its shape from {np.shape(first.image)} to"
                f" {np.shape(row.image)}"
            )
        if row.discount == 0 and not row.is_last:
            wrong.append("step: discount 0 says that the task ended, but is_last is False")
    return list(dict.fromkeys(wrong))  # each sentence once


def _wrong_row(
    where: str, row: Any, low: NDArray[np.float32], high: NDArray[np.float32]
) -> list[str]:
    if not isinstance(row, Step):
        return [f"{where}: expected a worldmodel.structs.Step, got {type(row).__name__}"]
    wrong = []
    image = row.image
    if not isinstance(image, np.ndarray):
        wrong.append(f"{where}: image: expected a numpy array, got {type(image).__name__}")
    elif image.dtype != np.uint8 or image.ndim != 3:
        wrong.append(f"{where}: image: expected uint8 [H, W, C], got {image.dtype} {image.shape}")
    if not np.isscalar(row.reward) and np.shape(row.reward) != ():
        wrong.append(f"{where}: reward: expected one number, got shape {np.shape(row.reward)}")
    elif not np.isfinite(row.reward):
        wrong.append(f"{where}: reward: expected a finite number, got {row.reward}")
    if not 0 <= row.discount <= 1:
        wrong.append(f"{where}: discount: expected 0 to 1, got {row.discount}")
    if not isinstance(row.is_last, (bool, np.bool_)):
        wrong.append(f"{where}: is_last: expected a bool, got {type(row.is_last).__name__}")
    if row.env_steps < (0 if where == "reset" else 1):
        wrong.append(f"{where}: env_steps: expected 1 or more, got {row.env_steps}")
    if row.action is not None:
        action = np.asarray(row.action)
        if action.shape != low.shape:
            wrong.append(f"{where}: action: expected shape {low.shape}, got {action.shape}")
        elif not np.isfinite(action).all():
            wrong.append(f"{where}: action: expected finite numbers, got {action.tolist()}")
    return wrong
