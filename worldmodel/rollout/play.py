"""Playing episodes: to collect experience, and to evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment, adopt
from worldmodel.rollout.noise import Noise, wandering
from worldmodel.structs import Episode, Plan, Step

ATTEMPTS = 3  # bad episodes in a row that end a run
IN_STEP = 5  # episodes at most that are played at once, each in an environment of its own
MAX_ROWS = 100_000  # an episode that never ends is an error, not a full memory


class BadEpisodeError(RuntimeError):
    """The environment gave a row that cannot be learned from; the message says which and why."""


@dataclass(frozen=True)
class Played:
    """An episode, and how long each plan took."""

    episode: Episode
    plan_milliseconds: NDArray[np.float64]  # [T - 1]
    seconds: float


def collect(env: Environment, agent: Agent, *, seed: int, noise: Noise) -> Played:
    """One episode with the planner and noise on its actions. Everything follows from ``seed``."""
    planned, disturb = _Planned(agent, seed), noise.disturbance(env, seed)
    played = _play(env, lambda row: disturb(planned(row)), seed)
    return Played(played.episode, np.array(planned.milliseconds), played.seconds)


def play_wandering(env: Environment, seed: int, memory: float) -> Played:
    """One episode of exploration noise alone, at its full size."""
    wander = wandering(env.action_low.shape, seed, memory)
    return _play(env, lambda row: next(wander), seed)


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
        seed = int(self.seeds.integers(2**62))
        self.belief = self.agent.observe(self.belief, row.action, row.observation, seed=seed)
        self.plan = self.agent.plan(self.belief, previous=self.plan, seed=seed)
        self.milliseconds.append(self.plan.milliseconds)
        return self.plan.first


class _Lane:
    """One of several episodes that are played in step: where it stands, and why it ended."""

    def __init__(self, env: Environment, seed: int, noise: Noise) -> None:
        self.env = env
        self.seeds = np.random.default_rng([seed, 1])
        self.disturb = noise.disturbance(env, seed)
        self.rows = [_checked(env.reset(seed), None)]
        self.error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.rows[-1].is_last

    def step(self, planned: NDArray[np.float32]) -> None:
        if self.is_over:
            return  # the others go on
        try:
            self.rows.append(_next(self.env, self.disturb(planned), self.rows))
        except Exception as error:  # whatever a user's environment does
            self.error = error


def collect_in_step(
    envs: Sequence[Environment], agent: Agent, seeds: Sequence[int], *, noise: Noise
) -> list[Played | Exception]:
    """An episode from each seed, all planned for at once; or what was wrong with it.

    The same episodes as one after the other, up to the rounding of larger products.
    """
    begun = time.perf_counter()
    lanes: list[_Lane | Exception] = []
    for env, seed in zip(envs, seeds, strict=False):
        try:
            lanes.append(_Lane(env, seed, noise))
        except Exception as error:
            lanes.append(error)
    going = [lane for lane in lanes if isinstance(lane, _Lane)]
    belief, plan = agent.initial(len(going)), None
    milliseconds = []
    while not all(lane.is_over for lane in going):
        last = [lane.rows[-1] for lane in going]
        draws = [int(lane.seeds.integers(2**62)) for lane in going]
        actions = np.stack([row.action for row in last if row.action is not None])
        belief = agent.observe(belief, actions, _side_by_side(last), seed=draws)
        plan = agent.plan(belief, previous=plan, seed=draws)
        milliseconds.append(plan.milliseconds)
        for lane, planned in zip(going, plan.first, strict=True):
            lane.step(planned)
    seconds = (time.perf_counter() - begun) / max(1, len(going))
    return [_ended(lane, milliseconds, seconds) for lane in lanes]


def _side_by_side(rows: Sequence[Step]) -> NDArray[np.uint8] | dict[str, NDArray[Any]]:
    """What several rows show, with the batch in front."""
    image = np.stack([row.image for row in rows])
    names = rows[0].vectors
    vectors = {name: np.stack([row.vectors[name] for row in rows]) for name in names}
    return {"image": image, **vectors} if vectors else image


def _ended(
    lane: _Lane | Exception, milliseconds: Sequence[float], seconds: float
) -> Played | Exception:
    if isinstance(lane, Exception):
        return lane
    if lane.error is not None:
        return lane.error
    plans = np.array(milliseconds[: len(lane.rows) - 1])
    return Played(Episode.stack(lane.rows), plans, seconds)


def play_random(env: Environment, seed: int) -> Played:
    """One episode of uniform random actions: what publications call random."""
    random = np.random.default_rng(seed)
    low, high = env.action_low, env.action_high
    return _play(env, lambda row: random.uniform(low, high).astype(np.float32), seed)


def play_constant(env: Environment, action: NDArray[np.float32], seed: int) -> Played:
    """One episode of one and the same action: a baseline that random action hides."""
    return _play(env, lambda row: action, seed)


def _play(env: Environment, choose: Callable[[Step], NDArray[np.float32]], seed: int) -> Played:
    begun = time.perf_counter()
    row = _checked(env.reset(seed), None)
    rows = [row]
    while not row.is_last:
        row = _next(env, choose(row), rows)
        rows.append(row)
    return Played(Episode.stack(rows), np.zeros(0), time.perf_counter() - begun)


def _next(env: Environment, action: NDArray[np.float32], rows: Sequence[Step]) -> Step:
    if len(rows) >= MAX_ROWS:
        raise BadEpisodeError(f"the episode does not end: {MAX_ROWS} rows without is_last")
    return _checked(env.step(action), rows[0])  # which clips


def _checked(row: Step, first: Step | None) -> Step:
    """The row itself, if it can be learned from."""
    shape = row.image.shape if first is None else first.image.shape
    if row.image.dtype != np.uint8 or row.image.ndim != 3 or row.image.shape != shape:
        expected = "[H, W, C]" if first is None else list(shape)
        raise BadEpisodeError(
            f"image: expected uint8 {expected}, got {row.image.dtype} {list(row.image.shape)}"
        )
    sizes, got = ({name: v.shape for name, v in r.vectors.items()} for r in (first or row, row))
    if got != sizes:
        raise BadEpisodeError(f"vectors: expected {sizes} as in the first row, got {got}")
    for name, vector in row.vectors.items():
        if not np.isfinite(vector).all():
            raise BadEpisodeError(f"{name}: expected finite numbers, got {vector.tolist()}")
    if not np.isfinite(row.reward):
        raise BadEpisodeError(f"reward: expected a finite number, got {row.reward}")
    if not 0 <= row.discount <= 1:
        raise BadEpisodeError(f"discount: expected 0 to 1, got {row.discount}")
    return row


def insist(play: Callable[[int], Played], dropped: list[str], attempts: int = ATTEMPTS) -> Played:
    """``play(attempt)`` until an episode is good; why the others were not goes to ``dropped``."""
    for attempt in range(attempts):
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
    env: Environment | Sequence[Environment],
    episodes: int,
    seed: int = 0,
    watch: Callable[[int, Episode], None] | None = None,
    dropped: list[str] | None = None,
) -> Evaluated:
    """Play without exploration noise; episode i starts from seed + i. ``watch`` sees each end.

    Several environments of one kind are played in step: a plan for five at once takes about as
    long as three plans for one. A bad episode raises; where ``dropped`` takes the reasons, it is
    played again first.
    """
    envs = [adopt(each) for each in (env if isinstance(env, Sequence) else [env])]
    seeds = [seed + number for number in range(episodes)]
    starts = [[start] * ATTEMPTS for start in seeds]
    played = []
    for number, one in enumerate(collect_several(envs, agent, starts, Noise.none(), dropped)):
        played.append(one)
        if watch is not None:
            watch(number, one.episode)
    milliseconds = np.concatenate([one.plan_milliseconds for one in played])
    return Evaluated([one.episode for one in played], seeds, milliseconds)


def collect_several(
    envs: Sequence[Environment],
    agent: Agent,
    seeds: Sequence[Sequence[int]],
    noise: Noise,
    dropped: list[str] | None,
) -> Iterator[Played]:
    """As many episodes as ``seeds``, in step as far as there are environments.

    Each has a seed for every attempt. A bad episode raises; where ``dropped`` takes the reasons,
    it is played again from its next seed.
    """
    for first in range(0, len(seeds), len(envs)):
        some = seeds[first : first + len(envs)]
        tried = _try(envs, agent, [attempts[0] for attempts in some], noise)
        for env, attempts, found in zip(envs, some, tried, strict=False):
            if not isinstance(found, Exception):
                yield found
            elif dropped is None:
                raise found
            else:
                dropped.append(f"{type(found).__name__}: {found}")
                yield _again(env, agent, attempts[1:], noise, dropped)


def _try(
    envs: Sequence[Environment], agent: Agent, seeds: Sequence[int], noise: Noise
) -> list[Played | Exception]:
    if len(seeds) > 1:
        return collect_in_step(envs, agent, seeds, noise=noise)
    try:
        return [collect(envs[0], agent, seed=seeds[0], noise=noise)]
    except Exception as error:  # whatever a user's environment does
        return [error]


def _again(
    env: Environment,
    agent: Agent,
    seeds: Sequence[int],
    noise: Noise,
    dropped: list[str],
) -> Played:
    def play(attempt: int) -> Played:
        return collect(env, agent, seed=seeds[attempt], noise=noise)

    return insist(play, dropped, len(seeds))
