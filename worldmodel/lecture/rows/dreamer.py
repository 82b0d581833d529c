"""Acting without planning: an actor that learned in imagination, on pendulum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from worldmodel.checks import read
from worldmodel.envs import Environment, make_env
from worldmodel.lecture.row import Row, at_least
from worldmodel.loop import train
from worldmodel.presets import load_preset
from worldmodel.rollout import play_constant, play_random

STEPS = 12_000  # simulator steps: 60 episodes
BASELINE_EPISODES = 10

# The preset, with images and networks that one core carries in a few minutes.
CONFIG = read(
    load_preset("dreamer"),
    {
        "task": "pendulum",
        "env": {"image_size": 32, "action_repeat": 2},
        "replay": {"batch": 16, "length": 16},
        "model": {
            "encoder": {"kind": "slim", "width": 8},
            "decoder": {"kind": "slim", "width": 8},
            "dynamics": {"deter_size": 128, "groups": 12, "classes": 12, "hidden_size": 128},
            "posterior": {"hidden_size": 128},
            "reward": {"size": 128},
            "value": {"size": 128},
            "policy": {"size": 128},
            "discount": "none",
        },
        "objective": {"discount": "none"},
        "behaviour": {"imagined_states": 64},
        "learner": {"precision": "float32"},
        "loop": {"updates": 170, "evaluate_every": 4000, "evaluate_episodes": 5},
    },
)
WITHOUT_ACTOR = read(CONFIG, {"behaviour": {"policy_rate": 1e-12}})


def measured(seed: int, broken: bool) -> Mapping[str, float]:
    config = replace(WITHOUT_ACTOR if broken else CONFIG, seed=seed)
    env = make_env(config.task, config.env)
    with TemporaryDirectory() as folder:
        outcome = train(config, Path(folder) / "run", steps=STEPS, env=env)
    return {"score": float(np.mean(outcome.returns)), **baselines(env)}


def baselines(env: Environment) -> Mapping[str, float]:
    """The scores of random actions and of none."""
    nothing = np.zeros_like(env.action_low)
    starts = range(BASELINE_EPISODES)
    random = [play_random(env, start).episode.total_reward for start in starts]
    zero = [play_constant(env, nothing, start).episode.total_reward for start in starts]
    return {"random": float(np.mean(random)), "zero": float(np.mean(zero))}


ROW = Row(
    name="dreamer",
    idea="an actor that learned in imagination acts well without any search",
    broken="the actor does not learn; model and value do",
    passes={"score": at_least(-850)},
    reds=("score",),
    short=False,
    settings=CONFIG,
    measure=measured,
)
