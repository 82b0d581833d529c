"""What rows share: episodes of random actions with true states, learning from them, and probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.analysis import r_squared
from worldmodel.config import Config
from worldmodel.envs import Environment
from worldmodel.learner import Learner
from worldmodel.models import WorldModel, build
from worldmodel.replay import cut
from worldmodel.structs import Batch, Episode, Latent, Spec, Step

RIDGE = 1e-3  # of a probe, on standardised features, for each row

# Settings with which a model of pendulum's images learns in a minute, without a reward.
PENDULUM = {
    "task": "pendulum",
    "env": {"image_size": 32},
    "model": {
        "encoder": {"kind": "slim", "width": 8},
        "decoder": {"width": 8},
        "dynamics": {"hidden_size": 128},
        "posterior": {"hidden_size": 128},
        "reward": None,
        "discount": None,
    },
    "objective": {
        "reward": None,
        "discount": None,
        "image": {"decoded_share": 0.5},
        "priority": None,
    },
    "learner": {"model_rate": 1e-3, "precision": "float32"},
}


@dataclass(frozen=True)
class Recorded:
    """An episode and its true states: by name [T, V]."""

    episode: Episode
    state: Mapping[str, NDArray[np.float32]]


def record(env: Environment, episodes: int, rows: int, seed: int) -> list[Recorded]:
    """Play episodes of uniform actions, each cut after ``rows`` rows."""
    random = np.random.default_rng(seed)
    return [
        _play(env, env.reset(int(random.integers(2**31))), rows, random) for _ in range(episodes)
    ]


def _play(env: Environment, first: Step, rows: int, random: np.random.Generator) -> Recorded:
    steps, states = [first], [env.state()]
    while len(steps) < rows:
        action = random.uniform(-1, 1, len(env.action_low)).astype(np.float32)
        steps.append(env.step(action))
        states.append(env.state())
    return Recorded(
        Episode.stack(steps), {name: np.stack([s[name] for s in states]) for name in states[0]}
    )


def learn(
    config: Config,
    recorded: Sequence[Recorded],
    updates: int,
    *,
    objective: Any = None,
    change: Any = None,
) -> WorldModel:
    """Learn from random windows of the episodes: the averaged weights after so many updates.

    ``objective`` replaces that of the settings; ``change(model)`` is called before learning begins.
    """
    episodes = [each.episode for each in recorded]
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    first = episodes[0]
    model = build(config.model, Spec(first.image.shape[1:], first.action.shape[1]))
    model.fit(torch.from_numpy(np.concatenate([each.image for each in episodes[:10]])))
    if change is not None:
        change(model)
    learner = Learner(
        model,
        config.objective if objective is None else objective,
        config.behaviour,
        config.learner,
        seed=config.seed,
        discount_rate=config.discount_rate,
    )
    batch, length = config.replay.batch, config.replay.length
    for _ in range(updates):
        places = random.integers(len(episodes), size=batch)
        begins = [(int(p), int(random.integers(len(episodes[p]) - length + 1))) for p in places]
        learner.update(cut(episodes, begins, length))
    return learner.averaged


def whole(recorded: Sequence[Recorded]) -> Batch:
    """All episodes as one batch: [B, T]"""
    episodes = [each.episode for each in recorded]
    return cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))


@torch.no_grad()
def believe(model: WorldModel, batch: Batch) -> Latent:
    """The beliefs along episodes: [B, T]"""
    return model.beliefs(batch.action, model.embed(batch.image, batch.vectors), batch.valid)


def states(recorded: Sequence[Recorded], name: str) -> NDArray[np.float64]:
    """[B, T, V]"""
    return np.stack([each.state[name] for each in recorded]).astype(np.float64)


def probe(
    features: Tensor, truth: NDArray[np.float64], held: Tensor, held_truth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """R^2 of each true number [V] on held-out rows, read by a linear probe of features [..., F]"""
    rows, asked = (part.flatten(0, -2).double().numpy() for part in (features, held))
    true, wanted = (part.reshape(-1, part.shape[-1]) for part in (truth, held_truth))
    centre, scale = rows.mean(0), rows.std(0).clip(1e-6)
    x, asked = (rows - centre) / scale, (asked - centre) / scale
    weights = np.linalg.solve(
        x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (true - true.mean(0))
    )
    read = asked @ weights + true.mean(0)
    return np.array([r_squared(w, r) for w, r in zip(wanted.T, read.T, strict=True)])
