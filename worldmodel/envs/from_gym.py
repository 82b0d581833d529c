"""An environment of gymnasium as an ``Environment`` of this package."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.checks import ConfigError
from worldmodel.envs.settings import EnvSettings
from worldmodel.images import ALONE
from worldmodel.structs import Step

INSTALL = 'pip install "gymnasium[classic-control]>=1.0"'
ACTION_REPEAT = 1
MOST_CHANNELS = 16  # an array with a longer last axis is not taken for an image

ReadImage = Callable[[Any], NDArray[np.uint8]]
"""Takes gymnasium's observation and returns an image [H, W, C] of the same moment."""

ReadVectors = Callable[[Any], dict[str, NDArray[np.float32]]]
"""Takes gymnasium's observation and returns the vectors in it, by name."""


class FromGym:
    """Wraps a ``gymnasium.Env``; images are its observations or, if it has none, its rendering.

    An observation that is a dict may hold several images, each of a camera by its name, and
    numbers, which become the row's vectors.
    ``terminated`` is the end of the task: discount 0. ``truncated``, as by gymnasium's TimeLimit,
    is only the end of the episode: the discount stays 1, because a value still lies ahead.
    One step repeats the action; its reward is the sum. Actions keep the bounds of the action
    space; choices are counted from 0, also where the space begins at another number.
    """

    def __init__(self, env: Any, config: EnvSettings, seed: int = 0, task: str = "") -> None:
        import gymnasium

        self._env = env
        self._task = task or _name(env)
        self._repeat = config.action_repeat or ACTION_REPEAT
        self._seeds = np.random.default_rng(seed)
        self._read_images, self._read_vectors = _readers(env, self._task)
        space = env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            self.action_count = int(space.n)
            self._translate: Callable[[Any], Any] = lambda choice: int(space.start) + int(choice)
        elif isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating):
            self.action_low, self.action_high = _bounds(space, self._task)
            self._translate = lambda action: _inside_of(space, action)
        else:
            raise ConfigError(
                f"task: {self._task} has the action space {space}; expected Box of floats or"
                " Discrete; wrap it so that it has"
            )
        self._observed: Any = None
        self._is_over = True

    def reset(self, seed: int | None = None) -> Step:
        begin = int(self._seeds.integers(2**31)) if seed is None else int(seed)
        self._observed, _ = self._env.reset(seed=begin)
        self._is_over = False
        vectors = self._read_vectors(self._observed)
        return Step(image=self._images(), env_steps=0, vectors=vectors)

    def step(self, action: Any) -> Step:
        if self._is_over:
            raise RuntimeError(f"{self._task}: the episode is over; call reset() first")
        gym_action = self._translate(action)
        reward, taken, terminated = 0.0, 0, False
        while taken < self._repeat and not self._is_over:
            self._observed, earned, terminated, truncated, _ = self._env.step(gym_action)
            taken += 1
            reward += float(earned)
            self._is_over = bool(terminated or truncated)
        return Step(
            image=self._images(),
            reward=reward,
            discount=0.0 if terminated else 1.0,
            is_last=self._is_over,
            env_steps=taken,
            vectors=self._read_vectors(self._observed),
        )

    def close(self) -> None:
        self._env.close()

    def describe(self) -> dict[str, str]:
        version = importlib.metadata.version("gymnasium")
        return {"task": self._task, "renderer": "gymnasium", "gymnasium": version}

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The observation of a task without image observations: often its true state."""
        if isinstance(self._observed, np.ndarray) and self._observed.dtype != np.uint8:
            return {"observation": np.ravel(self._observed).astype(np.float32)}
        return {}

    def _images(self) -> dict[str, NDArray[np.uint8]]:
        """[H, W, C] of each camera, by its name."""
        return {name: read(self._observed) for name, read in self._read_images.items()}


def make_gym(task: str, config: EnvSettings, seed: int) -> FromGym:
    """Make ``gym:ID``, or ``gym:MODULE:ID`` where importing MODULE registers ID."""
    if importlib.util.find_spec("gymnasium") is None:
        raise ConfigError(f"task: {task} needs gymnasium, which is not installed; type: {INSTALL}")
    _without_a_display()
    name = task.removeprefix("gym:")
    env = _make(name)
    if not _image_readers(env.observation_space):
        modes = env.metadata.get("render_modes", [])
        env.close()
        if "rgb_array" not in modes:
            raise ConfigError(
                f"task: {task} has no images: its observation is {env.observation_space} and it"
                f" renders {', '.join(map(str, modes)) or 'nothing'}, not rgb_array"
            )
        env = _make(name, render_mode="rgb_array")
    return FromGym(env, config, seed, task)


def _make(name: str, **options: Any) -> Any:
    """Call ``gymnasium.make``; its errors become ``ConfigError``."""
    import gymnasium

    try:
        return gymnasium.make(name, **options)
    except gymnasium.error.UnregisteredEnv as error:
        raise ConfigError(
            f"task: gymnasium knows no {name}{_similar(name, list(gymnasium.registry))}"
        ) from error
    except (ImportError, gymnasium.error.Error) as error:
        raise ConfigError(f"task: gym:{name} cannot be made: {error}") from error


def _similar(name: str, registry: Sequence[str]) -> str:
    """``; did you mean x?`` if an id is nearly this name, whatever its version; else how to look.

    The registry has hundreds of ids. Names are short, so it takes much to call two of them similar.
    """
    plain = {_unversioned(known) for known in registry}
    close = difflib.get_close_matches(_unversioned(name), plain, n=1, cutoff=0.75)
    close = close or [known for known in plain if _unversioned(name) in known]
    if len(close) == 1:
        ids = [known for known in registry if _unversioned(known) == close[0]]
        return f"; did you mean {difflib.get_close_matches(name, ids, n=1, cutoff=0.0)[0]}?"
    return "; this lists all: python -c 'import gymnasium; gymnasium.pprint_registry()'"


def _unversioned(name: str) -> str:
    """``ALE/Pong-v5`` -> ``pong``"""
    return name.rsplit("/", 1)[-1].partition("-v")[0].lower()


def _without_a_display() -> None:
    """Let pygame draw into memory.

    Otherwise it looks for a screen and loudspeakers, and prints a greeting to standard output,
    where ``--json`` promises one line.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def _name(env: Any) -> str:
    return f"gym:{env.spec.id}" if env.spec is not None else type(env.unwrapped).__name__


def _bounds(space: Any, task: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[A], [A]"""
    low, high = np.ravel(space.low).astype(np.float32), np.ravel(space.high).astype(np.float32)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(
            f"task: {task} has an action without limits: {space}; wrap it in"
            " gymnasium.wrappers.RescaleAction or another that sets limits"
        )
    return low, high


def _image_reader(space: Any) -> ReadImage | None:
    """How to read the image of an observation of this space; None if the space holds no image."""
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
        return None
    if len(space.shape) == 2:
        return lambda observed: np.asarray(observed)[..., None]
    if len(space.shape) == 3 and space.shape[-1] <= MOST_CHANNELS:
        return np.asarray
    return None


def _inside_of(space: Any, action: NDArray[np.float32]) -> NDArray[np.floating]:
    """Shape and clip the action for the space: scaling may have rounded past a bound."""
    shaped: NDArray[np.floating] = action.reshape(space.shape).astype(space.dtype)
    return shaped.clip(space.low, space.high)


def _image_readers(space: Any) -> dict[str, ReadImage]:
    """Readers of the images in an observation, by name; ALONE if the observation is an image."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Dict):
        readers = {name: _image_reader(part) for name, part in space.spaces.items()}
        return {name: _of_entry(name, read) for name, read in readers.items() if read is not None}
    read = _image_reader(space)
    return {} if read is None else {ALONE: read}


def _of_entry(name: str, read: ReadImage) -> ReadImage:
    return lambda observed: read(observed[name])


def _readers(env: Any, task: str) -> tuple[dict[str, ReadImage], ReadVectors]:
    """How to read the images and the vectors of an observation."""
    import gymnasium

    space = env.observation_space
    named = _image_readers(space)
    images = named or {ALONE: _rendering(env, task)}
    if not isinstance(space, gymnasium.spaces.Dict):
        return images, lambda observed: {}
    names = [name for name in space.spaces if name not in named]
    for name in names:
        if not isinstance(space.spaces[name], gymnasium.spaces.Box):
            raise ConfigError(
                f"task: {task}: its observation {name} is {space.spaces[name]}; expected Box; leave"
                " it out with gymnasium.wrappers.FilterObservation"
            )

    def vectors(observed: Any) -> dict[str, NDArray[np.float32]]:
        return {name: np.ravel(observed[name]).astype(np.float32) for name in names}

    return images, vectors


def _rendering(env: Any, task: str) -> ReadImage:
    """A reader that renders the image and ignores the observation."""
    if env.render_mode != "rgb_array":
        raise ConfigError(
            f"task: {task} shows no images: its observation is {env.observation_space} (expected"
            f" Box uint8 [H, W, C]) and its render_mode is {env.render_mode}; make it with"
            ' render_mode="rgb_array"'
        )
    from gymnasium.error import DependencyNotInstalled  # its message says what to install

    def render(observed: Any) -> NDArray[np.uint8]:
        try:
            image = env.render()
        except DependencyNotInstalled as error:
            raise ConfigError(f"task: {task} cannot be drawn: {error}") from error
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
            raise ConfigError(f"task: {task} renders {type(image).__name__}, not uint8 [H, W, 3]")
        return image

    return render
