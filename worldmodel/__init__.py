"""Agents that learn a latent world model from pixels and plan in it.

::

    import worldmodel

    agent = worldmodel.load("runs/default-cartpole_swingup-0")
    belief = agent.observe(agent.initial(), agent.no_action(), camera())
    plan = agent.plan(belief)

Importing this loads no simulator, no plotting, no video. A name is imported when it is first used,
because torch takes seconds: the command ``worldmodel`` answers a mistake without it.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.agent import Agent as Agent
    from worldmodel.checks import ConfigError as ConfigError
    from worldmodel.config import Config as Config
    from worldmodel.envs import as_gym as as_gym
    from worldmodel.envs import make_env as make_env
    from worldmodel.images import fit_image as fit_image
    from worldmodel.limits import Limits as Limits
    from worldmodel.loop import train as train
    from worldmodel.opened_run import open_run as open_run
    from worldmodel.robot import Controller as Controller
    from worldmodel.rollout import evaluate as evaluate
    from worldmodel.run_folder import load as load
    from worldmodel.sizing import within as within
    from worldmodel.structs import Batch as Batch
    from worldmodel.structs import Episode as Episode
    from worldmodel.structs import Latent as Latent
    from worldmodel.structs import Plan as Plan
    from worldmodel.structs import Step as Step

_ROOMS = {  # the room of each public name; a test compares it with the imports above
    "Agent": "agent",
    "Batch": "structs",
    "Config": "config",
    "ConfigError": "checks",
    "Controller": "robot",
    "Episode": "structs",
    "Latent": "structs",
    "Limits": "limits",
    "Plan": "structs",
    "Step": "structs",
    "as_gym": "envs",
    "evaluate": "rollout",
    "fit_image": "images",
    "load": "run_folder",
    "make_env": "envs",
    "open_run": "opened_run",
    "train": "loop",
    "within": "sizing",
}

__all__ = list(_ROOMS)


def __getattr__(name: str) -> Any:
    """Import a public name, or a room, when it is first used."""
    if name in _ROOMS:
        value = getattr(importlib.import_module(f"worldmodel.{_ROOMS[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"worldmodel.{name}") is not None:
        return importlib.import_module(f"worldmodel.{name}")
    raise AttributeError(f"module 'worldmodel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
