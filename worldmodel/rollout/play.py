"""Playing episodes: to collect experience, and to evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment, adopt
from worldmodel.structs import Episode, Plan, Step

# How much of the exploration noise survives a row. White noise averages out before anything moves:
# over 25 random episodes of ball_in_cup_catch it scored 21, this 102; on finger_spin 1 against 7.
MEMORY = np.float32(0.8)
ATTEMPTS = 3  # bad episodes in a row that end a run
MAX_ROWS = 100_000  # an episode that never ends is an error, not a full memory


class BadEpisodeError(RuntimeError):
    """The environment gave a row that cannot be learned from; the message says which and why."""


@dataclass(frozen=True)
class Played:
    """An episode, and how long each plan took."""

    episode: Episode
    plan_milliseconds: NDArray[np.float64]  # [T - 1]
    seconds: float


def collect(env: Environment, agent: Agent | None, *, seed: int, noise: float) -> Played:
    """One episode with the planner and noise on its actions; without an agent, noise alone.

    Everything follows from ``seed``: the start, the plans, the noise.
    """
    random = np.random.default_rng(seed)
    wander = np.zeros_like(env.action_low)  # unit variance, correlated over time

    def explore() -> NDArray[np.float32]:
        nonlocal wander
        fresh = random.standard_normal(wander.shape).astype(np.float32)
        wander = MEMORY * wander + np.float32(np.sqrt(1 - MEMORY**2)) * fresh
        return wander

    if agent is None:
        return _play(env, lambda row: explore(), seed)
    planned = _Planned(agent, seed)
    played = _play(env, lambda row: planned(row) + noise * explore(), seed)
    return Played(played.episode, np.array(planned.milliseconds), played.seconds)


class _Planned:
    """Believes and plans along one episode."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self.agent = agent
        self.seeds = np.random.default_rng([seed, 1])
        self.belief = agent.initial()
        self.plan: Plan | None = None
        self.milliseconds: list[float] = []

    def __call__(self, row: Step) -> NDArray[np.float32]:
        assert row.action is not None
        self.belief = self.agent.observe(self.belief, row.action, row.image)
        seed = int(self.seeds.integers(2**62))
        self.plan = self.agent.plan(self.belief, previous=self.plan, seed=seed)
        self.milliseconds.append(self.plan.milliseconds)
        return self.plan.first


def play_random(env: Environment, seed: int) -> Episode:
    """One episode of uniform random actions: what publications call random."""
    random = np.random.default_rng(seed)
    low, high = env.action_low, env.action_high
    return _play(env, lambda row: random.uniform(low, high).astype(np.float32), seed).episode


def play_constant(env: Environment, action: NDArray[np.float32], seed: int) -> Episode:
    """One episode of one and the same action: a baseline that random action hides."""
    return _play(env, lambda row: action, seed).episode


def _play(env: Environment, choose: Callable[[Step], NDArray[np.float32]], seed: int) -> Played:
    begun = time.perf_counter()
    row = _checked(env.reset(seed), None)
    rows = [row]
    while not row.is_last:
        if len(rows) >= MAX_ROWS:
            raise BadEpisodeError(f"the episode does not end: {MAX_ROWS} rows without is_last")
        row = _checked(env.step(np.clip(choose(row), env.action_low, env.action_high)), rows[0])
        rows.append(row)
    return Played(Episode.stack(rows), np.zeros(0), time.perf_counter() - begun)


def _checked(row: Step, first: Step | None) -> Step:
    """The row itself, if it can be learned from."""
    shape = row.image.shape if first is None else first.image.shape
    if row.image.dtype != np.uint8 or row.image.ndim != 3 or row.image.shape != shape:
        expected = "[H, W, C]" if first is None else list(shape)
        raise BadEpisodeError(
            f"image: expected uint8 {expected}, got {row.image.dtype} {list(row.image.shape)}"
        )
    if not np.isfinite(row.reward):
        raise BadEpisodeError(f"reward: expected a finite number, got {row.reward}")
    if not 0 <= row.discount <= 1:
        raise BadEpisodeError(f"discount: expected 0 to 1, got {row.discount}")
    return row


def insist(play: Callable[[int], Played], dropped: list[str]) -> Played:
    """``play(attempt)`` until an episode is good; why the others were not goes to ``dropped``."""
    for attempt in range(ATTEMPTS):
        try:
            return play(attempt)
        except Exception as error:  # whatever a user's environment does
            dropped.append(f"{type(error).__name__}: {error}")
            reason = error
    raise RuntimeError(
        f"environment: {ATTEMPTS} bad episodes in a row; the last one: {dropped[-1]}"
    ) from reason


@dataclass(frozen=True)
class Evaluated:
    """What ``evaluate`` saw."""

    episodes: Sequence[Episode]
    seeds: Sequence[int]
    plan_milliseconds: NDArray[np.float64]  # of every plan of every episode

    @property
    def returns(self) -> NDArray[np.float64]:
        return np.array([episode.total_reward for episode in self.episodes])

    @property
    def env_steps(self) -> int:
        return sum(episode.total_env_steps for episode in self.episodes)


def evaluate(
    agent: Agent,
    env: Environment,
    episodes: int,
    seed: int = 0,
    watch: Callable[[int, Episode], None] | None = None,
    dropped: list[str] | None = None,
) -> Evaluated:
    """Play without exploration noise; episode i starts from seed + i. ``watch`` sees each end.

    A bad episode raises; where ``dropped`` takes the reasons, it is played again first.
    """
    env = adopt(env)
    played, milliseconds = [], []
    for number in range(episodes):

        def play(attempt: int, number: int = number) -> Played:
            return collect(env, agent, seed=seed + number, noise=0.0)

        one = play(0) if dropped is None else insist(play, dropped)
        played.append(one.episode)
        milliseconds.append(one.plan_milliseconds)
        if watch is not None:
            watch(number, one.episode)
    seeds = [seed + number for number in range(episodes)]
    return Evaluated(played, seeds, np.concatenate(milliseconds))
