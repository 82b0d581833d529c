"""Exploration noise: its size and its correlation, which depend on settings and seed only."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import Painter
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import Environment, adopt
from worldmodel.models import WorldModel
from worldmodel.rollout import Fleet, InlineCollector, Job, Noise
from worldmodel.rollout.noise import SWELL_MEMORY, Disturb, wandering

ROWS, EPISODES = 400, 60


def noises(noise: Noise, seed: int, rows: int = ROWS) -> NDArray[np.float32]:
    env = adopt(Painter())
    disturb, still = noise.disturbance(env, seed), np.zeros_like(env.action_low)
    return np.stack([disturb(still) for _ in range(rows)])


def sizes(noise: Noise) -> NDArray[np.float64]:
    """[EPISODES, ROWS] of the logarithm of the noise over what it would be at a size of one."""
    return np.stack(
        [
            np.log(noises(noise, seed) / noises(Noise(1.0, noise.memory), seed))[:, 0]
            for seed in range(EPISODES)
        ]
    )


def test_without_swell_the_noise_has_the_set_size() -> None:
    wander = np.stack([*islice(wandering(adopt(Painter()).action_low.shape, 7, 0.8), ROWS)])
    np.testing.assert_array_equal(noises(Noise(0.3, 0.8), 7), 0.3 * wander)


def test_the_size_of_the_noise_changes_slowly_around_the_set_one() -> None:
    logs = sizes(Noise(0.3, 0.8, swell=1.0))
    assert abs(logs.mean() - np.log(0.3)) < 0.2
    assert abs(logs.std() - 1.0) < 0.1
    first, last = logs[:, 0], logs[:, -1]
    assert abs(first.std() - last.std()) < 0.35  # an episode begins anywhere, not at the median
    kept = np.corrcoef(logs[:, :-1].ravel(), logs[:, 1:].ravel())[0, 1]
    assert abs(kept - SWELL_MEMORY) < 0.01


@pytest.mark.parametrize("swell", [0.0, 0.5])
def test_the_spread_of_the_sizes_is_the_set_swell(swell: float) -> None:
    assert abs(sizes(Noise(0.3, 0.8, swell)).std() - swell) < 0.06


def test_the_noise_follows_from_the_seed_alone() -> None:
    noise = Noise(0.3, 0.8, swell=1.0)
    np.testing.assert_array_equal(noises(noise, 1), noises(noise, 1))
    assert not np.array_equal(noises(noise, 1), noises(noise, 2))


def test_the_noise_has_the_values_of_the_settings(
    model: WorldModel, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploration = {"size": 0.1, "memory": 0.2, "swell": 0.7}
    disturbance, used = Noise.disturbance, list[Noise]()

    def kept(self: Noise, env: Environment, seed: int) -> Disturb:
        used.append(self)
        return disturbance(self, env, seed)

    monkeypatch.setattr(Noise, "disturbance", kept)
    config = read(tiny, {"exploration": exploration})
    collector = InlineCollector(Fleet.of(adopt(Painter())), model, config)
    collector.begin(Job(0))
    assert used == [Noise(size=0.1, memory=0.2, swell=0.7)]


def test_no_noise_is_none() -> None:
    assert not noises(Noise.none(), 0).any()
