"""Collecting beside learning: the same jobs, in this process or in one of its own.

A job says which episode to play and which evaluation episodes after it; everything in its answer
follows from the job and the acting weights. So the two collectors give the same answers, and a
process that died or hangs is replaced and its job begun again, as if nothing had happened.
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
from worldmodel.config import Config
from worldmodel.envs import Altered, Environment, make_env
from worldmodel.models import WorldModel
from worldmodel.rollout.fleet import Fleet
from worldmodel.rollout.noise import Noise
from worldmodel.rollout.play import (
    ATTEMPTS,
    IN_STEP,
    Evaluated,
    Played,
    collect,
    evaluate,
    play_random,
    play_wandering,
    retry,
)
from worldmodel.structs import Step

EVALUATION_SEED = 1_000_000  # the first start of every evaluation, far from the training seeds
LOOK_S = 0.2  # between two looks at a process that is waited for
LEAVE_S = 2.0  # for a process to end by itself, and as long again after SIGTERM

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Job:
    """Play episodes for training, then perhaps some to evaluate, all with the acting weights."""

    episode: int  # the first one's number: the start and all noise follow from it
    count: int = 1
    random: bool = False  # seed episodes, before there is anything to plan with
    evaluation_episodes: int = 0


@dataclass(frozen=True)
class JobDone:
    played: Sequence[Played]
    evaluated: Evaluated | None = None
    dropped: list[str] = field(default_factory=list)  # why, for each episode that was dropped
    replaced: list[str] = field(default_factory=list)  # why, for each process that was replaced


class Collector(Protocol):
    """One job at a time: ``begin`` it, do something else, then ``end`` waits for its answer."""

    def begin(self, job: Job) -> None: ...

    def end(self) -> JobDone: ...

    def close(self) -> None: ...


def do(job: Job, fleet: Fleet, agent: Agent, config: Config) -> JobDone:
    """Bad episodes are dropped and played again from another start; too many in a row raise."""
    dropped: list[str] = []
    numbers = range(job.episode, job.episode + job.count)
    seeds = [[_seed(config, number, attempt) for attempt in range(ATTEMPTS)] for number in numbers]
    if job.random:
        played = [_play_random(fleet.first, attempts, config, dropped) for attempts in seeds]
    else:
        exploration, envs = config.exploration, fleet.several(job.count)
        noise = Noise(exploration.size, exploration.memory, exploration.swell)
        played = list(collect(envs, agent, seeds, noise, dropped))
    evaluated = None
    if job.evaluation_episodes:
        envs = fleet.several(job.evaluation_episodes)
        evaluated = evaluate(agent, envs, job.evaluation_episodes, EVALUATION_SEED, dropped=dropped)
    return JobDone(played, evaluated, dropped)


def _seed(config: Config, episode: int, attempt: int) -> int:
    return int(np.random.SeedSequence([config.seed, episode, attempt]).generate_state(1)[0])


def _play_random(
    env: Environment, seeds: Sequence[int], config: Config, dropped: list[str]
) -> Played:
    def play(attempt: int) -> Played | Exception:
        try:
            if config.loop.seed_actions == "uniform":
                return play_random(env, seeds[attempt])
            return play_wandering(env, seeds[attempt], config.exploration.memory)
        except Exception as error:  # whatever a user's environment does
            return error

    return retry(play, dropped)


class InlineCollector:
    """Plays in this process, when asked to begin."""

    def __init__(self, fleet: Fleet, acting: WorldModel, config: Config) -> None:
        self.fleet = fleet
        self.agent = agent_of(config, acting)
        self.config = config
        self._done: JobDone | None = None

    def begin(self, job: Job) -> None:
        self._done = do(job, self.fleet, self.agent, self.config)

    def end(self) -> JobDone:
        assert self._done is not None
        done, self._done = self._done, None
        return done

    def close(self) -> None:
        self.fleet.close()


class ProcessCollector:
    """Plays in a process of its own, which sees the acting weights in shared memory.

    The learner must not touch them between ``begin`` and ``end``. The process counts its rows
    where this one can see them: while ``end`` waits, ``loop.patience_s`` without another row is a
    hang. It is this process's own waiting that is counted, so a computer that was asleep, or a
    run that was stopped and continued as a whole, has lost no patience.
    """

    def __init__(
        self, acting: WorldModel, config: Config, make: Callable[[], Environment] | None = None
    ) -> None:
        """``make`` is called in the process; without it ``config.task`` is made."""
        self.acting = acting.share_memory()
        self.config = config
        self._make = make or functools.partial(make_env, config.task, config.env, config.seed)
        self._job: Job | None = None
        self._replaced: list[str] = []  # while at this job
        self._start()

    def begin(self, job: Job) -> None:
        self._job = job
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
        # without a lock, which could die with its holder
        self._rows = processes.CONTEXT.Value("Q", 0, lock=False)
        self._process, self._connection = processes.start(
            _work, self._rows, self.acting, self.config, self._make, name="worldmodel-collector"
        )

    def _answers(self) -> bool:
        """Waits for the answer, or the end of the process; False where it hangs."""
        rows, quiet_s = self._rows.value, 0.0
        while not self._connection.poll(LOOK_S):
            quiet_s = quiet_s + LOOK_S if self._rows.value == rows else 0.0
            rows = self._rows.value
            if quiet_s >= self.config.loop.patience_s:
                return False
        return True

    def _receive(self) -> Any:
        """An answer that stops halfway would be waited for without end."""
        watch = threading.Timer(self.config.loop.patience_s, self._process.kill)
        watch.start()
        try:
            return self._connection.recv()
        finally:
            watch.cancel()

    def _replace(self, what: str) -> None:
        """The process is gone: a new one begins the job again."""
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
        with contextlib.suppress(OSError):  # dead already: ``end`` will see it
            self._connection.send(self._job)


def _work(
    connection: Connection,
    rows: Any,
    acting: WorldModel,
    config: Config,
    make: Callable[[], Environment],
) -> None:
    """The collecting process: until the other side hangs up."""
    torch.set_num_threads(1)

    def count(env: Environment, row: Step) -> Step:
        rows.value += 1  # where the other process sees it
        return row

    fleet = Fleet(lambda: Altered(make(), count), IN_STEP)
    agent = agent_of(config, acting)
    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer: JobDone | Exception = do(job, fleet, agent, config)
        except Exception as error:
            logger.debug("%s", traceback.format_exc())
            answer = RuntimeError(str(error))
        try:
            connection.send(answer)
        except OSError:
            break
    fleet.close()
