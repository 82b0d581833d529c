"""Actions as an agent gives them and as an environment takes them: numbers in bounds, or choices.

An agent's actions are arrays [A] always: numbers in [-1, 1], or a choice as a one-hot array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Actions(Protocol):
    """What adopting an environment and checking one need to know of its actions."""

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
        """A where an action is one of A choices."""
        ...

    def legal(self, asked: NDArray[np.float32]) -> NDArray[np.float32]:
        """[A] -> [A]: the nearest action that an agent can have done."""
        ...

    def scale(self, action: NDArray[np.float32]) -> Any:
        """A legal action [A] as the environment's ``step`` takes it."""
        ...

    def read_back(self, done: Any) -> NDArray[np.float32]:
        """[A] a legal action, from what the environment says was done."""
        ...

    def draw(self, random: np.random.Generator) -> Any:
        """A random action as the environment's ``step`` takes it."""
        ...

    def wrong(self, done: Any) -> str:
        """Empty where an environment may say that this was done, else what was expected."""
        ...


@dataclass(frozen=True)
class Bounded:
    """Numbers between two bounds [A] of the environment, for which an agent gives [-1, 1]."""

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
    """One of ``count`` choices, an int to the environment; of an agent's array the largest entry
    counts."""

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
        made = int(done)
        if not 0 <= made < self.count:
            raise ValueError(f"action: expected 0 to {self.count - 1} done, got {made}")
        return self._one_hot(made)

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
    """Of an environment whose face ``wrong_actions`` finds nothing wrong with."""
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
