"""Environments by task name; a simulator is imported only when an environment of it is made."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worldmodel.checks import ConfigError, nearest
from worldmodel.envs.adopted import adopt
from worldmodel.envs.check import check_env
from worldmodel.envs.contract import Environment
from worldmodel.envs.settings import EnvSettings

if TYPE_CHECKING:
    from worldmodel.envs.to_gym import ToGym

__all__ = [
    "EnvSettings",
    "Environment",
    "TaskInfo",
    "adopt",
    "as_gym",
    "check_env",
    "make_env",
    "make_env_of_file",
    "module_of",
    "tasks",
]


@dataclass(frozen=True)
class TaskInfo:
    """A line of ``worldmodel tasks``."""

    name: str
    action_repeat: int
    action_size: int


DRAWN = ("toy", "planar", "pendulum")  # the package draws these itself, without a simulator
_DEFAULTS = EnvSettings()


def make_env(task: str, config: EnvSettings = _DEFAULTS, seed: int = 0) -> Environment:
    """Make ``toy``, ``planar``, ``pendulum``, a ``domain_task`` of dm_control, or ``gym:ID``.

    Actions are numbers in [-1, 1], or choices.
    """
    env = _make(task, config, seed)
    if not config.vectors:
        return env
    from worldmodel.envs.state_vectors import with_state

    return with_state(env)


def make_env_of_file(
    task: str, config: EnvSettings = _DEFAULTS, seed: int = 0, *, trust: bool = False
) -> Environment:
    """Make the environment of a task that a file names, such as a run's config.yaml.

    Refuse ``gym:MODULE:ID`` without ``trust``: importing MODULE runs its code, and opening a file
    that was received from others must not do that.
    """
    module = module_of(task)
    if module and not trust:
        raise ConfigError(
            f"task: {task} was read from a file, and playing it would import the module {module};"
            " if you trust the file, add --trust (eval, export, visualize, watch, bench)"
        )
    return make_env(task, config, seed)


def module_of(task: str) -> str:
    """The module that ``make_env`` imports for this task: MODULE of ``gym:MODULE:ID``, else ''."""
    is_gym = task.startswith("gym:")
    return task.removeprefix("gym:").rpartition(":")[0] if is_gym else ""


def _make(task: str, config: EnvSettings, seed: int) -> Environment:
    if config.cameras and (task in DRAWN or task.startswith("gym:")):
        raise ConfigError(
            f"env.cameras: only tasks of dm_control have cameras to choose from, got {task}; leave"
            " env.cameras out"
        )
    if task == "toy":
        from worldmodel.envs.toy import Toy

        return adopt(Toy(config, seed), config)
    if task == "planar":
        from worldmodel.envs.planar import Planar

        return adopt(Planar(config, seed), config)
    if task == "pendulum":
        from worldmodel.envs.pendulum import Pendulum

        return adopt(Pendulum(config, seed), config)
    if task.startswith("gym:"):
        from worldmodel.envs.from_gym import make_gym

        return adopt(make_gym(task, config, seed), config)
    if importlib.util.find_spec("dm_control") is None:
        raise ConfigError(
            f"task: {task} needs dm_control, which is not installed ({', '.join(DRAWN)} need"
            ' nothing); type: pip install "dm-control==1.0.50" "mujoco>=3.17,<4"'
        )
    from worldmodel.envs.suite import Suite, suite_tasks  # the simulator is heavy

    known = suite_tasks()
    if task not in known:
        raise ConfigError(f"task: no task {task}{nearest(task, [*DRAWN, *known])}")
    return adopt(Suite(task, config, seed), config)


def as_gym(env: Any) -> ToGym:
    """Turn an environment of ``make_env``, or your own, into a ``gymnasium.Env``."""
    if importlib.util.find_spec("gymnasium") is None:
        raise ConfigError("as_gym: gymnasium is not installed; type: pip install gymnasium")
    from worldmodel.envs.to_gym import ToGym  # its base class is gymnasium's

    return ToGym(adopt(env))


def tasks() -> list[TaskInfo]:
    """List every known task without rendering one; the suite's only if dm_control is installed."""
    from worldmodel.envs import pendulum, planar, toy

    known = [
        TaskInfo("toy", toy.ACTION_REPEAT, toy.ACTION_SIZE),
        TaskInfo("planar", planar.ACTION_REPEAT, planar.ACTION_SIZE),
        TaskInfo("pendulum", pendulum.ACTION_REPEAT, pendulum.ACTION_SIZE),
    ]
    if importlib.util.find_spec("dm_control") is not None:
        from worldmodel.envs.suite import action_repeat, action_size, suite_tasks

        known += [TaskInfo(name, action_repeat(name), action_size(name)) for name in suite_tasks()]
    return known
