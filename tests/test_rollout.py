from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import Painter
from worldmodel.agent import Agent
from worldmodel.config import Config, read
from worldmodel.envs import adopt
from worldmodel.models import WorldModel
from worldmodel.rollout import (
    BadEpisodeError,
    InlineCollector,
    Job,
    JobDone,
    ProcessCollector,
    collect,
    evaluate,
    play_constant,
)
from worldmodel.structs import Episode, Step


def is_aligned(episode: Episode) -> bool:
    """Every image shows the action of its own row."""
    painted = (episode.image[:, 0, 0, :2].astype(np.float32) - 127) / 100
    return bool(np.abs(painted - episode.action).max() < 0.01)


def test_a_row_is_the_action_and_what_came_back(painter: Painter) -> None:
    episode = collect(adopt(painter), None, seed=0, noise=0.0).episode
    assert len(episode) == 9
    assert is_aligned(episode)
    np.testing.assert_allclose(episode.reward, episode.action[:, 0], atol=1e-6)
    assert episode.action[0].tolist() == [0, 0]
    assert episode.total_env_steps == 16
    assert np.abs(episode.action[1:]).max() > 0.1


def test_a_shifted_row_is_seen(painter: Painter) -> None:
    episode = collect(adopt(painter), None, seed=0, noise=0.0).episode
    late = Episode(
        episode.image,
        np.roll(episode.action, 1, axis=0),
        episode.reward,
        episode.discount,
        episode.env_steps,
    )
    assert not is_aligned(late)


def test_the_belief_is_told_what_was_done(model: WorldModel, tiny: Config) -> None:
    """An environment that halves every action: the agent must hear of the half."""

    class Halving(Painter):
        def step(self, action: NDArray[np.float32]) -> Step:
            row = super().step(action / 2)
            return Step(row.image, row.reward, row.discount, row.is_last, action=action / 2)

    heard: list[NDArray[np.float32]] = []

    class Listening(Agent):
        def observe(self, belief, action, image):  # type: ignore[no-untyped-def]
            heard.append(action)
            return super().observe(belief, action, image)

    episode = collect(adopt(Halving()), Listening(model, tiny), seed=0, noise=0.1).episode
    assert is_aligned(episode)
    np.testing.assert_array_equal(np.stack(heard), episode.action[:-1])


def test_everything_follows_from_the_seed(model: WorldModel, tiny: Config) -> None:
    agent = Agent(model, tiny)

    def actions(seed: int) -> NDArray[np.float32]:
        return collect(adopt(Painter()), agent, seed=seed, noise=0.3).episode.action

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))


def test_exploration_wanders_with_unit_variance() -> None:
    walks = [
        collect(adopt(Painter(60)), None, seed=seed, noise=0.0).episode.action[20:, 0]
        for seed in range(60)
    ]
    walk = np.stack(walks)
    inside = np.abs(walk) < 1  # the rest is clipped
    assert 0.6 < inside.mean() < 0.76  # 68 % of a standard normal
    assert np.corrcoef(walk[:, :-1].ravel(), walk[:, 1:].ravel())[0, 1] > 0.6


def test_evaluating_adds_no_noise_and_starts_from_its_seeds(
    model: WorldModel, tiny: Config
) -> None:
    agent = Agent(model, tiny)
    evaluated = evaluate(agent, Painter(), episodes=3, seed=5)
    alone = collect(adopt(Painter()), agent, seed=6, noise=0.0)
    np.testing.assert_array_equal(evaluated.episodes[1].action, alone.episode.action)
    assert list(evaluated.seeds) == [5, 6, 7]
    assert len(evaluated.plan_milliseconds) == 3 * 8
    assert evaluated.env_steps == 3 * 16
    np.testing.assert_allclose(
        evaluated.returns, [episode.reward.sum() for episode in evaluated.episodes], rtol=1e-5
    )


def test_a_constant_action_is_played(painter: Painter) -> None:
    episode = play_constant(adopt(painter), np.array([0.5, 0.0], np.float32), seed=0)
    np.testing.assert_allclose(episode.total_reward, 8 * 0.5)


class Broken(Painter):
    """Every third episode is bad, in the way that the test asks for."""

    def __init__(self, defect: str, every: int = 3, after: int = 0) -> None:
        super().__init__()
        self.defect = defect
        self.every = every
        self.episodes = -1 - after

    def reset(self, seed: int | None = None) -> Step:
        self.episodes += 1
        return super().reset(seed)

    def step(self, action: NDArray[np.float32]) -> Step:
        row = super().step(action)
        if self.episodes < 0 or self.episodes % self.every or self.time < 4:
            return row
        if self.defect == "raises":
            raise ZeroDivisionError("by a robot")
        image, reward = row.image, row.reward
        if self.defect == "shape":
            image = image[:8]
        if self.defect == "dtype":
            image = image / np.float32(255)
        if self.defect == "nan":
            reward = float("nan")
        return Step(image, reward, 7.0 if self.defect == "discount" else 1.0, row.is_last)


COMPLAINTS = {
    "nan": "reward: expected a finite number, got nan",
    "shape": r"image: expected uint8 \[16, 16, 3\], got uint8 \[8, 16, 3\]",
    "dtype": r"image: expected uint8 \[16, 16, 3\], got float32",
    "discount": "discount: expected 0 to 1, got 7.0",
    "raises": "by a robot",
}


@pytest.mark.parametrize("defect", COMPLAINTS)
def test_a_bad_episode_is_dropped_and_said(defect: str, model: WorldModel, tiny: Config) -> None:
    with pytest.raises((BadEpisodeError, ZeroDivisionError), match=COMPLAINTS[defect]):
        collect(adopt(Broken(defect)), None, seed=0, noise=0.0)
    collector = InlineCollector(adopt(Broken(defect)), model, tiny)
    collector.begin(Job(0, random=True))
    done = collector.end()
    assert len(done.dropped) == 1
    assert is_aligned(done.played.episode)
    collector.close()


@pytest.mark.parametrize("defect", ["nan", "raises"])
def test_three_bad_episodes_in_a_row_end_the_run_with_the_reason(
    defect: str, model: WorldModel, tiny: Config
) -> None:
    collector = InlineCollector(adopt(Broken(defect, every=1)), model, tiny)
    with pytest.raises(RuntimeError, match=f"3 bad episodes in a row.*{COMPLAINTS[defect]}"):
        collector.begin(Job(0, random=True))


def assert_same_done(one: JobDone, other: JobDone) -> None:
    for name in ("image", "action", "reward"):
        np.testing.assert_array_equal(
            getattr(one.played.episode, name), getattr(other.played.episode, name)
        )
    assert (one.evaluated is None) == (other.evaluated is None)
    if one.evaluated is not None and other.evaluated is not None:
        np.testing.assert_array_equal(one.evaluated.returns, other.evaluated.returns)


def test_a_process_plays_what_this_one_would_and_a_dead_one_is_replaced(
    model: WorldModel, tiny: Config
) -> None:
    from worldmodel.envs import make_env

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    job = Job(4, evaluation_episodes=1)
    inline = InlineCollector(make_env("toy", tiny.env), model, tiny)
    inline.begin(job)
    expected = inline.end()
    collector = ProcessCollector(model, tiny)
    collector.begin(job)
    assert_same_done(collector.end(), expected)
    collector.begin(job)
    assert collector._process.pid is not None
    os.kill(collector._process.pid, signal.SIGKILL)
    assert_same_done(collector.end(), expected)
    assert collector.replaced == 1
    collector.close()
    assert not collector._process.is_alive()
    torch.set_num_threads(threads)


def test_an_error_in_the_process_is_raised_here(model: WorldModel, tiny: Config) -> None:
    collector = ProcessCollector(model, read(tiny, {"task": "nowhere"}))
    collector.begin(Job(0, random=True))
    with pytest.raises(RuntimeError, match="no task nowhere"):
        collector.end()
    collector.close()
