"""The simulator's own sensors beside the image: what a robot knows of itself."""

from __future__ import annotations

from dataclasses import replace

from worldmodel.checks import ConfigError
from worldmodel.envs.altered import Altered
from worldmodel.envs.contract import Environment
from worldmodel.structs import Step


def with_sensors(env: Environment) -> Environment:
    """``env`` with its ``state`` as vectors of its rows, as ``env.vectors`` asks."""
    env.reset(0)
    if not env.state():
        raise ConfigError(
            f"env.vectors: {env.describe()['task']} has no sensors beside its images; leave"
            " env.vectors false"
        )
    return Altered(env, _add_state)


def _add_state(env: Environment, row: Step) -> Step:
    return replace(row, vectors={**row.vectors, **env.state()})
