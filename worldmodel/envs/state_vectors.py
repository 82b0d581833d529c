"""The simulator's state as vectors of the rows, as a robot measures its own joints."""

from __future__ import annotations

from dataclasses import replace

from worldmodel.checks import ConfigError
from worldmodel.envs.altered import Altered
from worldmodel.envs.contract import Environment
from worldmodel.structs import Step


def with_state(env: Environment) -> Environment:
    """Wrap ``env``: its ``state`` becomes vectors of its rows, for the setting ``env.vectors``."""
    env.reset(0)
    if not env.state():
        raise ConfigError(
            f"env.vectors: {env.describe()['task']} has no state besides its images; leave"
            " env.vectors false"
        )
    return Altered(env, _add_state)


def _add_state(env: Environment, row: Step) -> Step:
    return replace(row, vectors={**row.vectors, **env.state()})
