"""Collectors play episodes while the learner learns, in this process or in one of their own.

A job names the episodes to play and the number of evaluation episodes after them. Its answer
depends on the job and the acting weights only. So both collectors give the same answers, and when
a process dies or hangs, a new one can do the job again with the same result.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import torch

from worldmodel import processes
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.config import Config, NoiseSettings
from worldmodel.envs import Environment, make_env
from worldmodel.models import WorldModel
from worldmodel.rollout.fleet import Fleet
from worldmodel.rollout.noise import exploration_of
from worldmodel.rollout.play import (
    ATTEMPTS,
    IN_STEP,
    Evaluated,
    OnRow,
    Played,
    collect,
    evaluate,
    ignore,
    play_random,
    play_wandering,
    retry,
)

PLAYING_THREADS = 1  # of a collecting process: the learner needs the other cores
EVALUATION_SEED = 1_000_000  # the first start of every evaluation, far from the training seeds
LOOK_S = 0.2  # between two checks of a process whose answer is awaited
LEAVE_S = 2.0  # a process may take so long to end by itself, and as long again after SIGTERM

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Job:
    """Play episodes for training, then perhaps some to evaluate, all with the acting weights."""

    episode: int  # number of the first episode: it decides the start and all noise
    count: int = 1
    env_steps: int = 0  # of the run before it: exploration may depend on them
    random: bool = False  # seed episodes, played before a model has learned
    evaluation_episodes: int = 0


@dataclass(frozen=True)
class JobDone:
    """The answer to a job."""

    played: Sequence[Played]
    evaluated: Evaluated | None = None
    dropped: list[str] = field(default_factory=list)  # a reason for each dropped episode
    replaced: list[str] = field(default_factory=list)  # a reason for each replaced process


@dataclass(frozen=True)
class Rows:
    """Rows that the environments have given so far in one job."""

    played: int = 0  # of episodes for training
    evaluated: int = 0


class Collector(Protocol):
    """Does one job at a time: ``begin`` starts it, ``end`` waits for its answer.

    ``rows``: the rows of the present job so far. ``watch`` is called again and again while the
    caller waits, so that it can show them.
    """

    @property
    def rows(self) -> Rows: ...

    def begin(self, job: Job, watch: OnRow = ignore) -> None: ...

    def end(self) -> JobDone: ...

    def close(self) -> None: ...


def do(
    job: Job,
    fleet: Fleet,
    agent: Agent,
    config: Config,
    on_row: OnRow = ignore,
    on_evaluation_row: OnRow = ignore,
) -> JobDone:
    """Play the episodes of a job.

    Bad episodes are dropped and played again from another start; too many in a row raise.
    """
    dropped: list[str] = []
    numbers = range(job.episode, job.episode + job.count)
    seeds = [[_seed(config, number, attempt) for attempt in range(ATTEMPTS)] for number in numbers]
    if job.random:
        played = [
            _play_random(fleet.first, attempts, config, dropped, on_row) for attempts in seeds
        ]
    else:
        envs, noise = fleet.several(job.count), exploration_of(config.exploration, job.env_steps)
        played = list(collect(envs, _curious(agent, config), seeds, noise, dropped, on_row))
    evaluated = None
    if job.evaluation_episodes:
        count = job.evaluation_episodes
        envs = fleet.several(count)
        evaluated = evaluate(
            agent, envs, count, EVALUATION_SEED, dropped=dropped, on_row=on_evaluation_row
        )
    return JobDone(played, evaluated, dropped)


def _curious(agent: Agent, config: Config) -> Agent:
    """The agent whose plans also seek what the model does not know, if that is wanted."""
    exploration = config.exploration
    if not isinstance(exploration, NoiseSettings) or not exploration.curiosity:
        return agent
    pessimism = agent.planning.pessimism - exploration.curiosity
    return agent.changed(planning=replace(agent.planning, pessimism=pessimism))


def _seed(config: Config, episode: int, attempt: int) -> int:
    return int(np.random.SeedSequence([config.seed, episode, attempt]).generate_state(1)[0])


def _play_random(
    env: Environment, seeds: Sequence[int], config: Config, dropped: list[str], on_row: OnRow
) -> Played:
    def play(attempt: int) -> Played | Exception:
        try:
            exploration = config.exploration
            if config.loop.seed_actions == "wander" and isinstance(exploration, NoiseSettings):
                return play_wandering(env, seeds[attempt], exploration.memory, on_row)
            return play_random(env, seeds[attempt], on_row)
        except Exception as error:  # a user's environment may raise anything
            return error

    return retry(play, dropped)


class InlineCollector:
    """Plays in this process, inside ``begin``."""

    def __init__(self, fleet: Fleet, acting: WorldModel, config: Config) -> None:
        self.fleet = fleet
        self.agent = agent_of(config, acting)
        self.config = config
        self.rows = Rows()
        self._done: JobDone | None = None

    def begin(self, job: Job, watch: OnRow = ignore) -> None:
        self.rows = Rows()

        def count_played() -> None:
            self.rows = replace(self.rows, played=self.rows.played + 1)
            watch()

        def count_evaluated() -> None:
            self.rows = replace(self.rows, evaluated=self.rows.evaluated + 1)
            watch()

        self._done = do(job, self.fleet, self.agent, self.config, count_played, count_evaluated)

    def end(self) -> JobDone:
        assert self._done is not None
        done, self._done = self._done, None
        return done

    def close(self) -> None:
        self.fleet.close()


class ProcessCollector:
    """Plays in a process of its own, which reads the acting weights from shared memory.

    The learner must not change them between ``begin`` and ``end``. The process counts its rows in
    shared memory too: while ``end`` waits, ``loop.patience_s`` without another row is a hang. Only
    the time that this process waited counts, so neither a computer that was asleep nor a run that
    was stopped and continued as a whole makes a hang.
    """

    def __init__(
        self, acting: WorldModel, config: Config, make: Callable[[], Environment] | None = None
    ) -> None:
        """``make`` makes an environment, in the process; by default one of ``config.task``."""
        self.acting = acting.share_memory()
        self.config = config
        self._make = make or functools.partial(make_env, config.task, config.env, config.seed)
        self._job: Job | None = None
        self._watch: OnRow = ignore
        self._replaced: list[str] = []  # during this job
        self._start()

    @property
    def rows(self) -> Rows:
        return Rows(*(now - then for now, then in zip(self._rows, self._before, strict=True)))

    def begin(self, job: Job, watch: OnRow = ignore) -> None:
        self._job, self._watch = job, watch
        self._before = [*self._rows]
        self._replaced = []
        try:
            self._connection.send(job)
        except OSError:
            self._replace("died")

    def end(self) -> JobDone:
        assert self._job is not None
        while True:
            if not self._answers():
                self._process.kill()
                self._replace(f"gave no row for {self.config.loop.patience_s:g} s")
                continue
            try:
                answer = self._receive()
                break
            except (EOFError, OSError):
                self._replace("died")
        self._job = None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, JobDone)
        return replace(answer, replaced=self._replaced)

    def close(self) -> None:
        self._connection.close()
        processes.stop(self._process, LEAVE_S)

    def _start(self) -> None:
        # without a lock: a process killed while it holds one would never release it
        self._rows = processes.CONTEXT.Array("Q", 2, lock=False)  # played, evaluated
        self._before = [*self._rows]  # when the present job began
        self._process, self._connection = processes.start(
            _work, self._rows, self.acting, self.config, self._make, name="worldmodel-collector"
        )

    def _answers(self) -> bool:
        """Wait for the answer, or the end of the process; False if it hangs."""
        rows, quiet_s = self.rows, 0.0
        while not self._connection.poll(LOOK_S):
            quiet_s = quiet_s + LOOK_S if self.rows == rows else 0.0
            rows = self.rows
            self._watch()
            if quiet_s >= self.config.loop.patience_s:
                return False
        return True

    def _receive(self) -> Any:
        """Receive the answer; kill a process that stops halfway, which would block for ever."""
        watch = threading.Timer(self.config.loop.patience_s, self._process.kill)
        watch.start()
        try:
            return self._connection.recv()
        finally:
            watch.cancel()

    def _replace(self, what: str) -> None:
        """Start a new process, which begins the job again."""
        code = processes.stop(self._process, LEAVE_S)
        self._replaced.append(f"the collecting process {what} (exit code {code})")
        if len(self._replaced) > ATTEMPTS:
            raise RuntimeError(
                f"collector: {self._replaced[-1]}, {len(self._replaced)} times in a row at the"
                " same episode; is the machine out of memory, or the environment stuck"
                " (loop.patience_s)?"
            )
        self._connection.close()
        self._start()
        with contextlib.suppress(OSError):  # it died already: ``end`` will notice
            self._connection.send(self._job)


def _work(
    connection: Connection,
    rows: Any,
    acting: WorldModel,
    config: Config,
    make: Callable[[], Environment],
) -> None:
    """Do jobs in the collecting process until the other side closes the connection."""
    torch.set_num_threads(PLAYING_THREADS)

    def count_played() -> None:
        rows[0] += 1  # in shared memory

    def count_evaluated() -> None:
        rows[1] += 1

    fleet = Fleet(make, IN_STEP)
    agent = agent_of(config, acting)
    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer: JobDone | Exception = do(
                job, fleet, agent, config, count_played, count_evaluated
            )
        except Exception as error:
            logger.debug("%s", traceback.format_exc())
            answer = RuntimeError(str(error))
        try:
            connection.send(answer)
        except OSError:
            break
    fleet.close()
