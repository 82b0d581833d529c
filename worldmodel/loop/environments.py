"""The environments of a run: made from its task, or the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worldmodel.checks import ConfigError
from worldmodel.config import Config
from worldmodel.envs import Environment, adopt, check_env, make_env
from worldmodel.envs.settings import EnvSettings
from worldmodel.rollout import IN_STEP, Fleet


@dataclass(frozen=True)
class Environments:
    """A function that makes an environment, and the user's object if one was given.

    Such an object cannot be made again, so it is the only environment of its run.
    """

    make: Callable[[], Environment]
    own: Environment | None = None

    @classmethod
    def of(cls, config: Config, given: Any = None) -> Environments:
        """``given``: the environment, or a function that makes one, which replaces the task."""
        if given is None:
            return cls(functools.partial(make_env, config.task, config.env, config.seed))
        if callable(given) and not hasattr(given, "step"):
            return cls(functools.partial(_make_own, _importable(given), config.env))
        own = _checked(given, config.env)
        return cls(lambda: own, own)

    def fleet(self) -> Fleet:
        return Fleet(self.make, IN_STEP) if self.own is None else Fleet.of(self.own)


def _make_own(make: Callable[[], Any], config: EnvSettings) -> Environment:
    return _checked(make(), config)


def _checked(env: Any, config: EnvSettings) -> Environment:
    check_env(env)
    return adopt(env, config)


def _importable(make: Callable[[], Any]) -> Callable[[], Any]:
    name = getattr(make, "__qualname__", "")
    if "<" in name:
        raise ConfigError(
            "env: a function that makes an environment is called in a process of its own, so it"
            f" must stand at the top of a module; got {name}"
        )
    return make
