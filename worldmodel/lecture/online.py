"""Whole runs in a row: they learn while they act, in a folder that is thrown away."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.loop import train
from worldmodel.rollout import play_random


def learned_return(config: Config, steps: int) -> float:
    """The mean return of the last evaluation of a run, without exploration."""
    env = make_env(config.task, config.env, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(config, Path(folder) / "run", steps=steps, env=env)
    env.close()
    return float(np.mean(outcome.returns))


def random_return(config: Config, episodes: int = 20) -> float:
    """The mean return of uniform random actions."""
    env = make_env(config.task, config.env, config.seed)
    played = [play_random(env, 1000 * config.seed + n).episode for n in range(episodes)]
    env.close()
    return float(np.mean([episode.total_reward for episode in played]))
