"""Actions: translated from an agent's to an environment's, and back.

An agent's actions are arrays [A] always: numbers in [-1, 1], or a choice as a one-hot array. An
environment takes numbers between bounds of its own, or a choice as an int.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Actions(Protocol):
    """The actions of one environment, as ``adopt`` and ``check_env`` use them."""

    @property
    def agent_low(self) -> NDArray[np.float32]:
        """[A]"""
        ...

    @property
    def agent_high(self) -> NDArray[np.float32]:
        """[A]"""
        ...

    @property
    def count(self) -> int | None:
        """A if an action is one of A choices, else None."""
        ...

    def legal(self, asked: NDArray[np.float32]) -> NDArray[np.float32]:
        """[A] -> [A]: the nearest action of an agent: clipped, or one-hot."""
        ...

    def scale(self, action: NDArray[np.float32]) -> Any:
        """Translate a legal action [A] for the environment's ``step``."""
        ...

    def read_back(self, done: Any) -> NDArray[np.float32]:
        """[A] Translate the action that the environment reports as done into a legal one."""
        ...

    def draw(self, random: np.random.Generator) -> Any:
        """Draw a random action for the environment's ``step``."""
        ...

    def wrong(self, done: Any) -> str:
        """A complaint about an action reported as done; empty if it is legal."""
        ...


@dataclass(frozen=True)
class Bounded:
    """Numbers between two bounds [A] of the environment; the agent's [-1, 1] is scaled to them."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    count = None

    @property
    def agent_low(self) -> NDArray[np.float32]:
        return -np.ones_like(self.low)

    @property
    def agent_high(self) -> NDArray[np.float32]:
        return np.ones_like(self.high)

    @property
    def half_span(self) -> NDArray[np.float32]:
        """[A]"""
        return (self.high - self.low) / np.float32(2)

    def legal(self, asked: NDArray[np.float32]) -> NDArray[np.float32]:
        return asked.clip(-1, 1)

    def scale(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.low + (action + 1) * self.half_span

    def read_back(self, done: Any) -> NDArray[np.float32]:
        action = (np.asarray(done, np.float32) - self.low) / self.half_span - 1
        return action.clip(-1, 1)

    def draw(self, random: np.random.Generator) -> NDArray[np.float32]:
        return random.uniform(self.low, self.high).astype(np.float32)

    def wrong(self, done: Any) -> str:
        action = np.asarray(done)
        if action.shape != self.low.shape:
            return f"action: expected shape {self.low.shape}, got {action.shape}"
        if not np.isfinite(action).all():
            return f"action: expected finite numbers, got {action.tolist()}"
        return ""


@dataclass(frozen=True)
class Choices:
    """One of ``count`` choices: the largest entry of the agent's array, the environment's int."""

    count: int

    @property
    def agent_low(self) -> NDArray[np.float32]:
        return np.zeros(self.count, np.float32)

    @property
    def agent_high(self) -> NDArray[np.float32]:
        return np.ones(self.count, np.float32)

    def legal(self, asked: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._one_hot(int(asked.argmax()))

    def scale(self, action: NDArray[np.float32]) -> int:
        return int(action.argmax())

    def read_back(self, done: Any) -> NDArray[np.float32]:
        choice = int(done)
        if not 0 <= choice < self.count:
            raise ValueError(f"action: expected 0 to {self.count - 1} done, got {choice}")
        return self._one_hot(choice)

    def draw(self, random: np.random.Generator) -> int:
        return int(random.integers(self.count))

    def wrong(self, done: Any) -> str:
        if isinstance(done, (int, np.integer)) and 0 <= done < self.count:
            return ""
        return f"action: expected a whole number from 0 to {self.count - 1}, got {done!r}"

    def _one_hot(self, choice: int) -> NDArray[np.float32]:
        """[A]"""
        action = np.zeros(self.count, np.float32)
        action[choice] = 1
        return action


def actions_of(env: Any) -> Bounded | Choices:
    """The actions of an environment, which ``wrong_actions`` must have found valid."""
    if has_choices(env):
        return Choices(int(env.action_count))
    return Bounded(np.asarray(env.action_low, np.float32), np.asarray(env.action_high, np.float32))


def has_choices(env: Any) -> bool:
    return getattr(env, "action_count", None) is not None


def wrong_actions(env: Any) -> list[str]:
    """A sentence for each thing wrong with the actions that an environment declares."""
    if has_choices(env):
        count = env.action_count
        if not isinstance(count, (int, np.integer)) or count < 2:
            return [f"action_count: expected a whole number from 2 on, got {count!r}"]
        return []
    wrong, bounds = [], {}
    for name in ("action_low", "action_high"):
        if not hasattr(env, name):
            wrong.append(
                f"{name}: {type(env).__name__} has none; expected an array of shape [A]"
                " (or, where an action is one of several choices, action_count)"
            )
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
