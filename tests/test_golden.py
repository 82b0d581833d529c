"""Figures at seed 0 that stay while rooms are rearranged: weights, losses, a plan, an episode.

Weights are compared bit for bit: a fixed seed makes the same numbers on every machine. Losses of
the first update are compared up to the rounding that processors differ by. Later losses, plans and
episodes multiply that rounding, so they are compared on one machine only, before and after a
change: ``python -m tests.test_golden | diff - tests/golden.json``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import TINY
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.models import WorldModel, build
from worldmodel.presets import load_preset
from worldmodel.rollout import Noise, collect
from worldmodel.structs import Batch, Spec

GOLDEN = Path(__file__).with_name("golden.json")


def sha256_of(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def made(config: Config, size: int) -> WorldModel:
    torch.manual_seed(0)
    return build(config.model, Spec((size, size, 3), 2))


def batch_of(rows: int, steps: int, size: int) -> Batch:
    random = torch.Generator().manual_seed(1)
    return Batch(
        image=torch.randint(0, 256, (rows, steps, size, size, 3), generator=random).byte(),
        action=torch.rand(rows, steps, 2, generator=random) * 2 - 1,
        reward=torch.rand(rows, steps, generator=random),
        discount=torch.ones(rows, steps),
        valid=torch.ones(rows, steps, dtype=torch.bool),
    )


def losses_of(
    config: Config, size: int, shape: tuple[int, int], updates: int
) -> list[dict[str, float]]:
    learner = learner_of(config, made(config, size))
    return [learner.update(batch_of(*shape, size)).metrics for _ in range(updates)]


def plan_of(config: Config) -> list[float]:
    agent = agent_of(config, made(config, 16))
    image = np.full((16, 16, 3), 100, np.uint8)
    belief = agent.observe(agent.initial(), agent.no_action(), image)
    numbers: list[float] = agent.plan(belief, seed=3).actions.flatten().tolist()
    return numbers


def episode_of(config: Config) -> list[float]:
    env = make_env("toy", config.env, 0)
    torch.manual_seed(0)
    model = build(config.model, Spec((16, 16, 3), len(env.action_low)))
    (played,) = collect([env], agent_of(config, model), [[5]], Noise(0.3, 0.8, 1.0))
    numbers: list[float] = played.episode.action.flatten().tolist()
    return numbers


def weights_and_losses(updates: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    in_float32 = {"learner": {"precision": "float32"}}
    default, planet = read(Config(), in_float32), read(load_preset("planet"), in_float32)
    return {
        "weights of default": sha256_of(made(default, 64)),
        "weights of planet": sha256_of(made(planet, 64)),
        "losses of default": losses_of(default, 64, (4, 6), updates),
        "losses of planet": losses_of(planet, 64, (2, 3), updates),
        "losses of tiny": losses_of(read(Config(), TINY), 16, (3, 5), updates),
    }


def figures() -> dict[str, Any]:
    tiny = read(Config(), TINY)
    acting = {"plan of tiny": plan_of(tiny), "episode of tiny": episode_of(tiny)}
    return {**weights_and_losses(updates=3), **acting}


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return weights_and_losses(updates=1)


@pytest.mark.parametrize("name", ["weights of default", "weights of planet"])
def test_weights_at_seed_0_are_as_they_were(now: dict[str, Any], name: str) -> None:
    assert now[name] == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", ["losses of default", "losses of planet", "losses of tiny"])
def test_losses_of_the_first_update_are_as_they_were(now: dict[str, Any], name: str) -> None:
    kept = json.loads(GOLDEN.read_text())[name][0]
    assert now[name][0] == pytest.approx(kept, rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
