"""Collecting beside learning: the same jobs, in this process or in one of its own.

A job says which episode to play and which evaluation episodes after it; everything in its answer
follows from the job and the acting weights. So the two collectors give the same answers, and a
process that died is replaced and its job begun again.
"""

from __future__ import annotations

import logging
import signal
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np
import torch

from worldmodel.agent import Agent
from worldmodel.config import Config
from worldmodel.envs import Environment, make_env
from worldmodel.models import WorldModel
from worldmodel.rollout.play import ATTEMPTS, Evaluated, Played, collect, evaluate, insist

EVALUATION_SEED = 1_000_000  # the first start of every evaluation, far from the training seeds

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Job:
    """Play one episode for training, then perhaps some to evaluate, all with the acting weights."""

    episode: int  # its number: the start and all noise follow from it
    random: bool = False  # a seed episode, before there is anything to plan with
    evaluation_episodes: int = 0


@dataclass(frozen=True)
class JobDone:
    played: Played
    evaluated: Evaluated | None = None
    dropped: list[str] = field(default_factory=list)  # why, for each episode that was dropped


class Collector(Protocol):
    """One job at a time: ``begin`` it, do something else, then ``end`` waits for its answer."""

    def begin(self, job: Job) -> None: ...

    def end(self) -> JobDone: ...

    def close(self) -> None: ...


def do(job: Job, env: Environment, agent: Agent, config: Config) -> JobDone:
    """Bad episodes are dropped and played again from another start; too many in a row raise."""
    dropped: list[str] = []

    def play(attempt: int) -> Played:
        words = np.random.SeedSequence([config.seed, job.episode, attempt]).generate_state(1)
        actor = None if job.random else agent
        return collect(env, actor, seed=int(words[0]), noise=config.loop.noise)

    played = insist(play, dropped)
    evaluated = None
    if job.evaluation_episodes:
        evaluated = evaluate(agent, env, job.evaluation_episodes, EVALUATION_SEED, dropped=dropped)
    return JobDone(played, evaluated, dropped)


class InlineCollector:
    """Plays in this process, when asked to begin."""

    def __init__(self, env: Environment, acting: WorldModel, config: Config) -> None:
        self.env = env
        self.agent = Agent(acting, config)
        self.config = config
        self._done: JobDone | None = None

    def begin(self, job: Job) -> None:
        self._done = do(job, self.env, self.agent, self.config)

    def end(self) -> JobDone:
        assert self._done is not None
        done, self._done = self._done, None
        return done

    def close(self) -> None:
        self.env.close()


class ProcessCollector:
    """Plays in a process of its own, which sees the acting weights in shared memory.

    The learner must not touch them between ``begin`` and ``end``.
    """

    def __init__(self, acting: WorldModel, config: Config) -> None:
        self.acting = acting.share_memory()
        self.config = config
        self.replaced = 0  # processes that died
        self._job: Job | None = None
        self._start()

    def begin(self, job: Job) -> None:
        self._job = job
        try:
            self._connection.send(job)
        except OSError:
            self._replace()

    def end(self) -> JobDone:
        assert self._job is not None
        while True:
            try:
                answer = self._connection.recv()
                break
            except (EOFError, OSError):
                self._replace()
        self._job = None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, JobDone)
        return answer

    def close(self) -> None:
        self._connection.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _start(self) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, self.acting, self.config), daemon=True
        )
        self._process.start()
        theirs.close()

    def _replace(self) -> None:
        """The process is gone: a new one begins the job again."""
        self.replaced += 1
        self._process.join(timeout=2)
        if self.replaced > ATTEMPTS:
            raise RuntimeError(
                f"collector: its process died {self.replaced} times (exit code"
                f" {self._process.exitcode}); is the machine out of memory?"
            )
        logger.warning(
            "the collecting process died (exit code %s); a new one begins the episode again",
            self._process.exitcode,
        )
        self._start()
        self._connection.send(self._job)


def _work(connection: Connection, acting: WorldModel, config: Config) -> None:
    """The collecting process: until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner decides when to leave
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    env: Environment | None = None
    agent = Agent(acting, config)
    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, OSError):
            break
        try:
            env = env or make_env(config.task, config.env, config.seed)
            answer: JobDone | Exception = do(job, env, agent, config)
        except Exception as error:
            logger.debug("%s", traceback.format_exc())
            answer = RuntimeError(str(error))
        try:
            connection.send(answer)
        except OSError:
            break
    if env is not None:
        env.close()
