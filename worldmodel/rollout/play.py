"""Episodes that an agent, or a baseline, plays in an environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment, EnvSettings, adopt
from worldmodel.images import has_aspect
from worldmodel.rollout.noise import Exploration, Noise, wandering
from worldmodel.scores import Goal
from worldmodel.structs import Episode, Spec, Step, wrong_row

ATTEMPTS = 3  # a run ends after so many bad episodes in a row
IN_STEP = 5  # most episodes that are played at once, each in an environment of its own
MAX_ROWS = 100_000  # a longer episode is an error: one that never ends would fill the memory

OnRow = Callable[[], object]
"""Called after each row that an environment gives, so that a caller can detect a hang."""


def ignore() -> None:
    """Do nothing after a row."""


class BadEpisodeError(RuntimeError):
    """The environment gave a row that cannot be learned from; the message says why."""


@dataclass(frozen=True)
class Played:
    """An episode, and how long each plan took."""

    episode: Episode
    plan_milliseconds: NDArray[np.float64]  # [T - 1]
    seconds: float


def plan_seeds(seed: int) -> Iterator[int]:
    """The seed of each plan of the episode that starts from ``seed``."""
    random = np.random.default_rng([seed, 1])
    while True:
        yield int(random.integers(2**62))


class EpisodeInPlay:
    """One of the episodes that an agent plays at once: its rows so far, and why it ended.

    ``error`` is an error of the environment. Errors of the agent are raised and not kept here.
    """

    def __init__(
        self, env: Environment, spec: Spec, seed: int, noise: Exploration, on_row: OnRow
    ) -> None:
        self.env = env
        self.on_row = on_row
        self.plan_seeds = plan_seeds(seed)
        self.disturb = noise.disturbance(env, seed)
        self.rows: list[Step] = []
        self.error: Exception | None = None
        try:
            first = env.reset(seed)
            on_row()
            _check_fit(first, spec)
            _append(self.rows, first)
        except Exception as error:  # a user's environment may raise anything
            self.error = error

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.rows[-1].is_last

    def step(self, planned: NDArray[np.float32]) -> None:
        action = self.disturb(planned)
        try:
            row = self.env.step(action)  # the environment clips the action
            self.on_row()
            _append(self.rows, row)
        except Exception as error:  # a user's environment may raise anything
            self.error = error

    def outcome(self, milliseconds: Sequence[float], seconds: float) -> Played | Exception:
        if self.error is not None:
            return self.error
        plans = np.array(milliseconds[: len(self.rows) - 1])
        return Played(Episode.stack(self.rows), plans, seconds)


def play_in_step(
    envs: Sequence[Environment],
    agent: Agent,
    seeds: Sequence[int],
    noise: Exploration,
    on_row: OnRow = ignore,
) -> list[Played | Exception]:
    """Play an episode from each seed, with one plan for all; or return its environment's error.

    The episodes equal those played one after the other, up to the rounding of larger products.
    """
    begun = time.perf_counter()
    spec = agent.model.spec
    pairs = zip(envs, seeds, strict=False)
    episodes = [EpisodeInPlay(env, spec, seed, noise, on_row) for env, seed in pairs]
    started = [episode for episode in episodes if episode.rows]
    belief, plan = agent.initial(len(started)), None
    score = None if agent.planning.goal is None or not started else _goals(agent, started)
    milliseconds = []
    while not all(episode.is_over for episode in started):
        last = [episode.rows[-1] for episode in started]
        draws = [next(episode.plan_seeds) for episode in started]
        actions = np.stack([row.action for row in last if row.action is not None])
        belief = agent.observe(belief, actions, _observation_of(last), seed=draws)
        plan = agent.plan(belief, previous=plan, seed=draws, score=score)
        chosen = noise.chosen(agent, belief, plan, draws)
        if not np.isfinite(chosen).all():
            raise ValueError("plan: expected finite numbers, as broken weights do not give")
        milliseconds.append(plan.milliseconds)
        for episode, planned in zip(started, chosen, strict=True):
            if not episode.is_over:  # the others continue
                episode.step(planned)
    seconds = (time.perf_counter() - begun) / max(1, len(started))
    return [episode.outcome(milliseconds, seconds) for episode in episodes]


def _goals(agent: Agent, episodes: Sequence[EpisodeInPlay]) -> Goal:
    """The score of episodes that are planned to the goals of their environments."""
    images = [episode.env.goal() for episode in episodes]
    if any(image is None for image in images):
        raise ValueError(
            "planning.goal: the environment gives no goal image, and the agent plans to it; give it"
            " a method goal(), or plan with agent.plan(belief, score=agent.goal(picture))"
        )
    return agent.goal(np.stack(images))


def _observation_of(rows: Sequence[Step]) -> NDArray[np.uint8] | dict[str, NDArray[Any]]:
    """The images and vectors of several rows, stacked: [B, ...]"""
    image = np.stack([row.image for row in rows])
    names = rows[0].vectors
    vectors = {name: np.stack([row.vectors[name] for row in rows]) for name in names}
    return {"image": image, **vectors} if vectors else image


def play_wandering(env: Environment, seed: int, memory: float, on_row: OnRow = ignore) -> Played:
    """Play one episode of exploration noise alone, at its full size."""
    wander = wandering(env.action_low.shape, seed, memory)
    return _play(env, lambda: next(wander), seed, on_row)


def play_random(env: Environment, seed: int, on_row: OnRow = ignore) -> Played:
    """Play one episode of uniform random actions: what publications call random."""
    random = np.random.default_rng(seed)
    low, high = env.action_low, env.action_high
    return _play(env, lambda: random.uniform(low, high).astype(np.float32), seed, on_row)


def play_constant(env: Environment, action: NDArray[np.float32], seed: int) -> Played:
    """Play one episode of one constant action: it may earn more than random actions do."""
    return _play(env, lambda: action, seed, ignore)


def _play(
    env: Environment, choose: Callable[[], NDArray[np.float32]], seed: int, on_row: OnRow
) -> Played:
    """Play one episode of actions that do not depend on images."""
    begun = time.perf_counter()
    rows: list[Step] = []
    row = env.reset(seed)
    on_row()
    _append(rows, row)
    while not row.is_last:
        row = env.step(choose())
        on_row()
        _append(rows, row)
    return Played(Episode.stack(rows), np.zeros(0), time.perf_counter() - begun)


def _check_fit(row: Step, spec: Spec) -> None:
    """Raise if a first row is not what the agent's model takes."""
    expected = {"image": spec.image, **{name: (size,) for name, size in spec.vectors.items()}}
    got = {"image": row.image.shape, **{name: v.shape for name, v in row.vectors.items()}}
    if got != expected:
        raise BadEpisodeError(f"first row: expected {expected} as the agent takes, got {got}")
    for name, learned in spec.cameras.items():  # older runs do not know them
        shape = row.cameras.get(name, learned)
        if not has_aspect(shape, learned):
            raise BadEpisodeError(
                f"first row: {name}: expected images {list(learned)} as the agent learned"
                f" from, or others of this aspect; got {list(shape)}, which show another picture"
            )


def _append(rows: list[Step], row: Step) -> None:
    """Add a row to an episode; raise if it cannot be learned from, or if no end is in sight."""
    wrong = wrong_row(row, rows[0] if rows else None)
    if wrong:
        raise BadEpisodeError("; ".join(wrong))
    rows.append(row)
    if len(rows) >= MAX_ROWS and not row.is_last:
        raise BadEpisodeError(f"the episode does not end: {MAX_ROWS} rows without is_last")


def retry(
    play: Callable[[int], Played | Exception], dropped: list[str], attempts: int = ATTEMPTS
) -> Played:
    """Call ``play(attempt)`` until an episode is good; ``dropped`` takes the others' errors."""
    error: Exception | None = None
    for attempt in range(attempts):
        outcome = play(attempt)
        if not isinstance(outcome, Exception):
            return outcome
        dropped.append(_reason(outcome))
        error = outcome
    raise RuntimeError(
        f"environment: {ATTEMPTS} bad episodes in a row; the last one: {dropped[-1]}"
    ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Evaluated:
    """The episodes of an evaluation."""

    episodes: Sequence[Episode]
    seeds: Sequence[int]
    plan_milliseconds: NDArray[np.float64]  # of every plan of every episode
    spec: Spec

    @property
    def videos(self) -> list[NDArray[np.uint8]]:
        """[T, H, W', 3] of each episode: its newest images, the cameras side by side."""
        return [self.spec.shown(episode.image) for episode in self.episodes]

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
    on_row: OnRow = ignore,
) -> Evaluated:
    """Play without exploration noise; episode i starts from seed + i.

    ``watch`` is called after each episode, with its number. Several environments of one kind are
    played in step: a plan for five at once takes about as long as three plans for one. A bad
    episode raises; with a list ``dropped``, which takes the reasons, it is played again first.
    """
    spec = agent.model.spec
    settings = EnvSettings(image_size=spec.image[0], fit=spec.fit, frames=spec.frames)
    envs = [adopt(each, settings) for each in (env if isinstance(env, Sequence) else [env])]
    seeds = [seed + number for number in range(episodes)]
    starts = [[start] * ATTEMPTS for start in seeds]
    played = []
    for number, done in enumerate(collect(envs, agent, starts, Noise.none(), dropped, on_row)):
        played.append(done)
        if watch is not None:
            watch(number, done.episode)
    milliseconds = np.concatenate([done.plan_milliseconds for done in played])
    return Evaluated([done.episode for done in played], seeds, milliseconds, spec)


def collect(
    envs: Sequence[Environment],
    agent: Agent,
    seeds: Sequence[Sequence[int]],
    noise: Exploration,
    dropped: list[str] | None = None,
    on_row: OnRow = ignore,
) -> Iterator[Played]:
    """Play as many episodes as ``seeds``, one in each environment at a time.

    ``seeds`` holds for each episode a seed for every attempt, which decides everything in it. A
    bad episode raises; with a list ``dropped``, which takes the reasons, it is played again from
    its next seed. Errors of the agent are raised at once.
    """
    for first in range(0, len(seeds), len(envs)):
        some = seeds[first : first + len(envs)]
        outcomes = play_in_step(envs, agent, [attempts[0] for attempts in some], noise, on_row)
        for env, attempts, outcome in zip(envs, some, outcomes, strict=False):
            if not isinstance(outcome, Exception):
                yield outcome
            elif dropped is None:
                raise outcome
            else:
                dropped.append(_reason(outcome))
                yield _play_again(env, agent, attempts[1:], noise, dropped, on_row)


def _play_again(
    env: Environment,
    agent: Agent,
    seeds: Sequence[int],
    noise: Exploration,
    dropped: list[str],
    on_row: OnRow,
) -> Played:
    def play(attempt: int) -> Played | Exception:
        return play_in_step([env], agent, [seeds[attempt]], noise, on_row)[0]

    return retry(play, dropped, len(seeds))
