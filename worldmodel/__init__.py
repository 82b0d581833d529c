"""Agents that learn a latent world model from pixels and plan in it.

::

    import worldmodel

    agent = worldmodel.load("runs/default-cartpole_swingup-0")
    belief = agent.observe(agent.initial(), agent.no_action(), camera())
    plan = agent.plan(belief)

Importing this loads no simulator, no plotting, no video.
"""

from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.config import Config
from worldmodel.envs import as_gym, make_env
from worldmodel.loop import train
from worldmodel.planners import Limits
from worldmodel.robot import Controller
from worldmodel.rollout import evaluate
from worldmodel.run_folder import load
from worldmodel.sizing import within
from worldmodel.structs import Batch, Episode, Latent, Plan, Step

__all__ = [
    "Agent",
    "Batch",
    "Config",
    "ConfigError",
    "Controller",
    "Episode",
    "Latent",
    "Limits",
    "Plan",
    "Step",
    "as_gym",
    "evaluate",
    "load",
    "make_env",
    "train",
    "within",
]
