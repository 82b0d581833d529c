"""Tasks of dm_control's suite, with images of one camera or several."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.checks import ConfigError
from worldmodel.envs.render import Renderer, choose, make_renderer
from worldmodel.envs.settings import EnvSettings
from worldmodel.envs.suite_goals import POSES, posed
from worldmodel.images import ALONE
from worldmodel.structs import Step

# from PlaNet, Table 1 of the appendix; its successors take 2 everywhere
ACTION_REPEATS = {
    "cartpole": 8,
    "reacher": 4,
    "cheetah": 4,
    "ball_in_cup": 4,
    "finger": 2,
    "walker": 2,
}
OTHER_ACTION_REPEAT = 2

# for lqr, the only task without a time limit and limits of its actions: those of the others
TIME_LIMIT = 1000  # simulator steps
UNLIMITED = 1e9


@functools.cache
def import_suite() -> Any:
    """Import dm_control.suite; refuse a version of mujoco that breaks it.

    The import is done without OpenGL, which would warn or fail on a machine without a display;
    ``gl`` chooses a backend when a renderer needs one.
    """
    version = importlib.metadata.version("mujoco")
    if int(version.split(".")[0]) >= 4:
        raise ConfigError(
            f"mujoco: dm-control {importlib.metadata.version('dm-control')} breaks on mujoco 4"
            f' and later, found {version}; type: pip install --force-reinstall "mujoco>=3.17,<4"'
        )
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disabled"
    try:
        from dm_control import suite
    finally:
        if before is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = before
    return suite


@functools.cache
def suite_tasks() -> dict[str, tuple[str, str]]:
    """``domain_task`` -> (domain, task)"""
    return {f"{domain}_{task}": (domain, task) for domain, task in import_suite().ALL_TASKS}


def action_repeat(task: str) -> int:
    return ACTION_REPEATS.get(suite_tasks()[task][0], OTHER_ACTION_REPEAT)


def action_size(task: str) -> int:
    size: int = load(task, np.random.RandomState(0)).action_spec().shape[0]
    return size


def load(task: str, random: np.random.RandomState) -> Any:
    """Load dm_control's own environment; the task draws from ``random``."""
    with _quiet_absl():
        return import_suite().load(*suite_tasks()[task], task_kwargs={"random": random})


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Silence warnings: some model files use a compiler attribute that mujoco deprecates."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(level)


class Suite:
    """A task of the suite. One step repeats the action; its reward is the sum."""

    def __init__(self, task: str, config: EnvSettings, seed: int) -> None:
        self._task = task
        self._random = np.random.RandomState(0)  # the task's own; seeded for each episode
        self._seeds = np.random.default_rng(seed)
        self._env = load(task, self._random)
        self._physics = self._env.physics
        model = self._physics.model
        renderer = choose(config.renderer, has_skin=model.nskin > 0)
        cameras = _cameras(task, model, config)
        if renderer == "warp":
            self._physics._contexts = _NO_OPENGL
        self._renderers: dict[str, Renderer] = {
            name: make_renderer(renderer, self._physics, camera, config.image_size, config.samples)
            for name, camera in cameras.items()
        }
        spec = self._env.action_spec()
        self.action_low = _limited(spec.minimum, -1)
        self.action_high = _limited(spec.maximum, 1)
        self._repeat = config.action_repeat or action_repeat(task)
        self._steps = 0
        self._over = True
        self._observed: dict[str, Any] = {}

    def reset(self, seed: int | None = None) -> Step:
        self._random.seed(self._seeds.integers(2**31) if seed is None else seed)
        with self._physics_errors():
            start = self._env.reset()
        self._steps = 0
        self._over = False
        self._observed = start.observation
        for renderer in self._renderers.values():
            renderer.start()
        return Step(image=self._render(), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        if self._over:
            raise RuntimeError(f"{self._task}: the episode is over; call reset() first")
        control = np.asarray(action, np.float64)
        reward = 0.0
        taken = 0
        is_last = False
        with self._physics_errors():
            while taken < self._repeat and not is_last:
                moment = self._env.step(control)
                taken += 1
                reward += float(moment.reward)
                is_last = moment.last() or self._steps + taken >= TIME_LIMIT
        if not np.isfinite(reward):
            self._over = True
            raise RuntimeError(f"{self._task}: the reward became {reward}")
        self._steps += taken
        self._over = is_last
        self._observed = moment.observation
        return Step(
            image=self._render(),
            reward=reward,
            discount=float(moment.discount),
            is_last=is_last,
            env_steps=taken,
        )

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()

    def describe(self) -> dict[str, str]:
        packages = ["mujoco", "dm-control"]
        renderer = next(iter(self._renderers.values())).name  # all are of one kind
        described = {"task": self._task, "renderer": renderer}
        if renderer == "warp":
            packages += ["mujoco-warp", "warp-lang"]
        else:
            described["opengl"] = os.environ["MUJOCO_GL"]
        return described | {name: importlib.metadata.version(name) for name in packages}

    def goal(self) -> dict[str, NDArray[np.uint8]] | None:
        """[H, W, 3] of each camera: the task's goal, reached and at rest; None if it has no pose"""
        pose = POSES.get(suite_tasks()[self._task][0])
        if pose is None:
            return None
        with posed(self._physics, pose(self._physics)):
            return self._render()

    def state(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: np.ravel(np.asarray(value, np.float32)) for name, value in self._observed.items()
        }

    def _render(self) -> dict[str, NDArray[np.uint8]]:
        """[H, W, 3] of each camera, by its name."""
        return {name: renderer.render() for name, renderer in self._renderers.items()}

    @contextlib.contextmanager
    def _physics_errors(self) -> Iterator[None]:
        from dm_control.rl.control import PhysicsError

        try:
            yield
        except PhysicsError as error:
            self._over = True
            raise RuntimeError(f"{self._task}: the physics diverged: {error}") from error


def _cameras(task: str, model: Any, config: EnvSettings) -> dict[str, int]:
    """The numbers of the chosen cameras, by their names in the model or, without one, as text."""
    known = [model.camera(index).name or str(index) for index in range(model.ncam)]
    setting = "env.cameras" if config.cameras else "env.camera"
    for number in config.cameras or (config.camera,):
        if number >= len(known):
            listed = ", ".join(f"{index} {name}" for index, name in enumerate(known))
            raise ConfigError(f"{setting}: {task} has no camera {number}; it has: {listed}")
    if not config.cameras:
        return {ALONE: config.camera}
    return {known[number]: number for number in config.cameras}


def _limited(bound: NDArray[np.float64], otherwise: float) -> NDArray[np.float32]:
    return np.where(np.abs(bound) < UNLIMITED, bound, otherwise).astype(np.float32)


class _NoOpenGL:
    """Replaces the graphics card to which quadruped_escape would upload its terrain."""

    ptr = None

    @contextlib.contextmanager
    def make_current(self) -> Iterator[_NoOpenGL]:
        yield self

    def call(self, function: Any, *arguments: Any) -> None:
        """Do nothing."""

    def free(self) -> None: ...


_NO_OPENGL = SimpleNamespace(gl=_NoOpenGL(), mujoco=_NoOpenGL())
