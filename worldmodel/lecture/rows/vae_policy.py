"""Soft actor-critic on the latents of a VAE swings the pendulum up, from three images a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from worldmodel.checks import read
from worldmodel.lecture.online import learned_return, random_return
from worldmodel.lecture.row import Row, at_least
from worldmodel.presets import load_preset

STEPS = 8000  # of the simulator, which makes 40 episodes

CONFIG = read(
    load_preset("vae_policy"),
    {
        "task": "pendulum",
        "env": {"action_repeat": 2},
        "learner": {"precision": "float32"},
        "loop": {"evaluate_every": 1_000_000},
    },
)
FROZEN = read(CONFIG, {"behaviour": {"tunes_encoder": False}})
UNREWARDED = read(CONFIG, {"behaviour": {"reward_scale": 1e-9}})


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    config = replace(UNREWARDED if broken else CONFIG, seed=seed)
    tuned = learned_return(config, STEPS)
    figures = {"tuned_return": tuned, "random_return": random_return(config)}
    if broken:
        return figures
    frozen = learned_return(replace(FROZEN, seed=seed), STEPS)
    return {**figures, "frozen_return": frozen, "tuned_over_frozen": tuned - frozen}


ROW = Row(
    name="vae_policy",
    idea="a policy on the latents of a VAE swings a pendulum up without planning",
    broken="the critics see no rewards",
    passes={"tuned_return": at_least(-400), "tuned_over_frozen": at_least(0)},
    reds=("tuned_return",),
    short=False,
    settings={"steps": STEPS, "tuned": CONFIG, "frozen": FROZEN},
    measure=measure,
)
