"""What an environment is: the protocol, the wrapper that adopts anybody's, the checker."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import EnvConfig
from worldmodel.envs.images import wrong_size
from worldmodel.structs import Step


class Environment(Protocol):
    """Gives rows: the action that was done, and what came back.

    A user's own environment needs only ``reset``, ``step`` and its actions: ``action_low`` and
    ``action_high``, or ``action_count`` where an action is one of so many choices, which ``step``
    then takes as an int. Its ``reset`` need take no seed, and its rows may leave ``action`` out;
    ``adopt`` fills in the rest. Here actions are arrays always: of a choice [A], the largest entry
    counts.
    """

    action_low: NDArray[np.float32]  # [A]
    action_high: NDArray[np.float32]  # [A]
    action_count: int | None  # A where an action is one of A choices

    def reset(self, seed: int | None = None) -> Step: ...

    def step(self, action: NDArray[np.float32]) -> Step: ...

    def close(self) -> None: ...

    def describe(self) -> dict[str, str]:
        """What a run's records say of it: task, renderer, versions."""
        ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The true quantities, for probes: nothing that learns or acts may look (``env.vectors`` is
        how a person lets them)."""
        ...


class Adopted:
    """Anybody's environment with actions in [-1, 1] and every field of its rows filled.

    The agent's action is clipped to [-1, 1] and scaled to the bounds of the environment; the row
    holds the normalised action that was done, which is what the environment says was done
    (``Step.action``, in its own units) where it says so.
    """

    is_adopted = True
    action_count: int | None = None

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
        return _first_row(row, np.zeros_like(self._low))

    def step(self, action: NDArray[np.float32]) -> Step:
        asked = _asked(action, self._low.shape).clip(-1, 1)
        row: Step = self._env.step(self._low + (asked + 1) * self._half_span)
        return _filled(row, asked if row.action is None else self._normalise(row.action))

    def close(self) -> None:
        _close(self._env)

    def describe(self) -> dict[str, str]:
        return _describe(self._env)

    def state(self) -> dict[str, NDArray[np.float32]]:
        return _state(self._env)

    def _normalise(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        done = (np.asarray(action, np.float32) - self._low) / self._half_span - 1
        return done.clip(-1, 1)


class AdoptedChoices:
    """The same for an environment whose action is one of ``action_count`` choices.

    The agent's action is an array [A] of which the largest entry counts; the row holds the choice
    that was made as a one-hot array, and zeros in row 0, where nothing was chosen yet.
    """

    is_adopted = True

    def __init__(self, env: Any) -> None:
        wrong = _wrong_face(env)
        if wrong:
            raise ValueError("; ".join(wrong))
        self._env = env
        self.action_count: int | None = int(env.action_count)
        self._takes_seed = _takes_seed(env.reset)
        self.action_low = np.zeros(int(env.action_count), np.float32)
        self.action_high = np.ones(int(env.action_count), np.float32)

    def reset(self, seed: int | None = None) -> Step:
        row: Step = self._env.reset(seed=seed) if self._takes_seed else self._env.reset()
        return _first_row(row, np.zeros_like(self.action_low))

    def step(self, action: NDArray[np.float32]) -> Step:
        asked = int(_asked(action, self.action_low.shape).argmax())
        row: Step = self._env.step(asked)
        made = asked if row.action is None else int(row.action)
        if not 0 <= made < len(self.action_low):
            raise ValueError(f"action: expected 0 to {len(self.action_low) - 1} done, got {made}")
        done = np.zeros_like(self.action_low)
        done[made] = 1
        return _filled(row, done)

    def close(self) -> None:
        _close(self._env)

    def describe(self) -> dict[str, str]:
        return _describe(self._env)

    def state(self) -> dict[str, NDArray[np.float32]]:
        return _state(self._env)


_DEFAULTS = EnvConfig()


def adopt(env: Any, config: EnvConfig = _DEFAULTS) -> Environment:
    """``env`` as the loop uses it: see ``Adopted`` and ``AdoptedChoices``.

    One that is adopted already stays as it is. A ``gymnasium.Env`` is opened first, its images as
    ``config`` says.
    """
    if getattr(env, "is_adopted", False):
        adopted: Environment = env
        return adopted
    opened = _opened(env, config)
    return AdoptedChoices(opened) if has_choices(opened) else Adopted(opened)


def has_choices(env: Any) -> bool:
    return getattr(env, "action_count", None) is not None


def _opened(env: Any, config: EnvConfig) -> Any:
    """A ``gymnasium.Env`` as one of ours; nobody has one who has not imported gymnasium."""
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None or not isinstance(env, gymnasium.Env):
        return env
    from worldmodel.envs.from_gym import FromGym

    return FromGym(env, config)


def _first_row(row: Step, action: NDArray[np.float32]) -> Step:
    row = _filled(row, action)
    return replace(row, env_steps=0)


def _filled(row: Step, action: NDArray[np.float32]) -> Step:
    return replace(
        row,
        reward=float(row.reward),
        discount=float(row.discount),
        action=action,
        vectors={name: np.asarray(felt, np.float32) for name, felt in row.vectors.items()},
    )


def _asked(action: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    asked = np.asarray(action, np.float32)
    if asked.shape != shape:
        raise ValueError(f"action: expected shape {shape}, got {asked.shape}")
    if not np.isfinite(asked).all():
        raise ValueError(f"action: expected finite numbers, got {asked.tolist()}")
    return asked


def _close(env: Any) -> None:
    if hasattr(env, "close"):
        env.close()


def _describe(env: Any) -> dict[str, str]:
    if hasattr(env, "describe"):
        described: dict[str, str] = env.describe()
        return described
    return {"task": type(env).__name__}


def _state(env: Any) -> dict[str, NDArray[np.float32]]:
    if hasattr(env, "state"):
        true: dict[str, NDArray[np.float32]] = env.state()
        return true
    return {}


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
    if has_choices(env):
        count = env.action_count
        if not isinstance(count, (int, np.integer)) or count < 2:
            wrong.append(f"action_count: expected a whole number from 2 on, got {count!r}")
        return wrong
    bounds = {}
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


def check_env(env: Any, rows: int = 20) -> None:
    """Plays a few rows with random actions; ``ValueError`` with a sentence for each thing wrong."""
    env = _opened(env, _DEFAULTS)
    wrong = _wrong_face(env)
    if not wrong:
        wrong = _wrong_rows(env, rows)
    if wrong:
        raise ValueError(f"{type(env).__name__} is not an environment:\n  " + "\n  ".join(wrong))


def _wrong_rows(env: Any, rows: int) -> list[str]:
    random = np.random.default_rng(0)
    actions: _Bounded | _Choices
    if has_choices(env) and not getattr(env, "is_adopted", False):
        actions = _Choices(int(env.action_count))
    else:
        actions = _Bounded(np.asarray(env.action_low), np.asarray(env.action_high))
    first = env.reset()
    wrong = _wrong_row("reset", first, actions)
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
        row = env.step(actions.draw(random))
        wrong += _wrong_row("step", row, actions)
        if not isinstance(row, Step):
            break
        if np.shape(row.image) != np.shape(first.image):
            wrong.append(
                f"step: image changes its shape from {np.shape(first.image)} to"
                f" {np.shape(row.image)}"
            )
        sizes = [{n: np.shape(v) for n, v in r.vectors.items()} for r in (first, row)]
        if sizes[0] != sizes[1]:
            wrong.append(f"step: vectors change from {sizes[0]} to {sizes[1]}")
        if row.discount == 0 and not row.is_last:
            wrong.append("step: discount 0 says that the task ended, but is_last is False")
    return list(dict.fromkeys(wrong))  # each sentence once


@dataclass(frozen=True)
class _Bounded:
    """Actions between two arrays, as the check draws them and looks at them."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

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
class _Choices:
    """Actions that are one of so many choices."""

    count: int

    def draw(self, random: np.random.Generator) -> int:
        return int(random.integers(self.count))

    def wrong(self, done: Any) -> str:
        if isinstance(done, (int, np.integer)) and 0 <= done < self.count:
            return ""
        return f"action: expected a whole number from 0 to {self.count - 1}, got {done!r}"


def _wrong_row(where: str, row: Any, actions: _Bounded | _Choices) -> list[str]:
    if not isinstance(row, Step):
        return [f"{where}: expected a worldmodel.structs.Step, got {type(row).__name__}"]
    wrong = []
    image = row.image
    if not isinstance(image, np.ndarray):
        wrong.append(f"{where}: image: expected a numpy array, got {type(image).__name__}")
    elif image.dtype != np.uint8 or image.ndim != 3:
        wrong.append(f"{where}: image: expected uint8 [H, W, C], got {image.dtype} {image.shape}")
    elif complaint := wrong_size(image.shape):
        wrong.append(f"{where}: {complaint}")
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
    for name, felt in row.vectors.items():
        vector = np.asarray(felt)
        if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            wrong.append(
                f"{where}: {name}: expected numbers [V], got {vector.dtype} {vector.shape}"
            )
        elif not np.isfinite(vector).all():
            wrong.append(f"{where}: {name}: expected finite numbers, got {vector.tolist()}")
        if name == "image":
            wrong.append(f"{where}: vectors: image is the image's own name; choose another")
    if row.action is not None and (complaint := actions.wrong(row.action)):
        wrong.append(f"{where}: {complaint}")
    return wrong
