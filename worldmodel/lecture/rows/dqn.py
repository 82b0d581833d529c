"""Q-learning balances CartPole from images, and not as well on features that were never learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from worldmodel.checks import read
from worldmodel.lecture.online import learned_return, random_return
from worldmodel.lecture.row import Row, at_least
from worldmodel.presets import load_preset

STEPS = 20_000  # of the simulator; an action lasts two of them

CONFIG = read(
    load_preset("dqn"),
    {
        "discount_rate": 0.98,
        "env": {"image_size": 32, "fit": "crop", "frames": 2, "action_repeat": 2},
        "model": {
            "encoder": {"kind": "mlp"},
            "decoder": {"kind": "mlp"},
            "policy": {"size": 128},
            "posterior": {"hidden_size": 128},
        },
        "exploration": {"shrinks_over": 8000},
        "learner": {"precision": "float32"},
        "loop": {
            "seed_episodes": 20,
            "seed_updates": 300,
            "updates": 400,
            "evaluate_every": 1_000_000,
        },
    },
)
# a frozen encoder at its random weights: no loss has a gradient for it
RANDOM_FEATURES = read(
    CONFIG, {"objective": {"image": {"weight": 0.0}}, "behaviour": {"tunes_encoder": False}}
)


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    blind = learned_return(replace(RANDOM_FEATURES, seed=seed), STEPS)
    found = blind if broken else learned_return(replace(CONFIG, seed=seed), STEPS)
    return {
        "return": found,
        "random_features_return": blind,
        "over_random_features": found - blind,
        "random_actions_return": random_return(replace(CONFIG, seed=seed)),
    }


ROW = Row(
    name="dqn",
    idea="values of choices are learned from images alone, with the features that they need",
    broken="the encoder stays at its random weights",
    passes={"return": at_least(150), "over_random_features": at_least(10)},
    reds=("return", "over_random_features"),
    short=False,
    settings={"steps": STEPS, "learned": CONFIG, "random_features": RANDOM_FEATURES},
    measure=measure,
)
