"""A dry run: the time, memory and disk that a run would need here, measured in a few seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import machine
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checkpoint import KEPT
from worldmodel.config import UPDATES_PER_ROW, Config
from worldmodel.envs import Environment
from worldmodel.loop.disk import checkpoint_bytes, free_bytes, megabytes
from worldmodel.loop.environments import Environments
from worldmodel.loop.forecast import Costs, Schedule, Standing, seconds_left
from worldmodel.machine import BUSY, cores, learning_threads, resident_bytes
from worldmodel.models import WorldModel, build
from worldmodel.replay import Replay, bytes_per_row
from worldmodel.rollout import PLAYING_THREADS
from worldmodel.structs import Episode, Spec, Step
from worldmodel.timing import warm_seconds

PLAY_S, LEARN_S, PLAN_S = 5.0, 4.0, 2.0  # measurements end soon after so many seconds
MOST = 10  # updates or plans that are timed
UNLIMITED = 100_000  # env steps that are judged where no --steps are given


@dataclass(frozen=True)
class Needs:
    """What a run needs on this machine, as busy as it is now."""

    env_steps: int  # as asked for, or as many as the minutes allow
    seconds: float  # the final evaluation included
    memory_bytes: float  # at most
    rows_bytes: float  # on the disk, at most
    checkpoints_bytes: float
    free_bytes: int
    free_at: Path
    update_ms: float
    plan_ms: float
    row_ms: float  # of the environment alone
    is_whole_episode: bool  # else an episode is longer than what was played of it
    load: float  # of the machine, before anything was measured

    def __str__(self) -> str:
        longer = (
            "" if self.is_whole_episode else " at least, as an episode is longer than was tried"
        )
        busy = (
            [
                f"  busy    a load of {self.load:.1f} on {cores()} cores: other work runs here, and"
                " on an idle machine it takes less time"
            ]
            if self.load > BUSY * cores()
            else []
        )
        is_full = self.rows_bytes + self.checkpoints_bytes > self.free_bytes
        return "\n".join(
            [
                f"  time    about {duration(self.seconds)} for {self.env_steps:,} env steps and the"
                f" final evaluation{longer}",
                f"          {self.update_ms:.0f} ms an update, {self.plan_ms:.0f} ms a plan,"
                f" {self.row_ms:.1f} ms a row of the environment; {cores()} cores",
                *busy,
                f"  memory  up to {megabytes(self.memory_bytes)}",
                f"  disk    up to {megabytes(self.rows_bytes)} of rows,"
                f" {megabytes(self.checkpoints_bytes)} of checkpoints;"
                f" {megabytes(self.free_bytes)} are free at {self.free_at}"
                f"{', which is too little' if is_full else ''}",
            ]
        )


def dry_run(
    config: Config,
    run: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    env: Any = None,
    final_episodes: int = 10,
) -> Needs:
    """Measure some rows, updates and plans, and say what the whole run would need.

    Nothing is written. It takes up to 20 seconds of an idle machine. ``run``: the folder whose disk
    is looked at.
    """
    load = machine.load()  # the measurements raise it
    environments = Environments.of(config, env)
    own = environments.make()
    try:
        episode, spec, row_s, is_whole = _play(own, config)
    finally:
        if environments.own is None:
            own.close()
    model = build(config.model, spec).to(device)
    checkpoints = (KEPT + 1) * checkpoint_bytes(model)
    at_once = environments.own is None and cores() > 1
    with _threads(learning_threads(device) if at_once else None):
        update_s = _learn(config, model, episode)
    with _threads(PLAYING_THREADS if at_once else None):
        plan_s = _plan(agent_of(config, model.requires_grad_(False)))

    costs = Costs()
    costs.add("random row", 1, row_s)
    costs.add("planned row", 1, row_s + plan_s)
    costs.add("update", 1, update_s)
    repeat = episode.total_env_steps / (len(episode) - 1)  # the first row follows no action
    at = Standing(
        rows_per_episode=len(episode),
        steps_per_episode=episode.total_env_steps,
        updates_per_step=(config.loop.updates or 1000 * UPDATES_PER_ROW / repeat) / 1000,
    )

    def seconds(limit: int) -> float:
        schedule = Schedule.of(config.loop, final_episodes, limit, None)
        return seconds_left(schedule, at, costs, at_once) or 0.0

    reached = steps if minutes is None else _most(seconds, 60 * minutes, steps)
    reached = UNLIMITED if reached is None else reached
    rows = max(reached / repeat, config.loop.seed_episodes * len(episode))
    row_bytes = bytes_per_row(spec.image, spec.action_size, sum(spec.vectors.values()))
    free, free_at = free_bytes(run)
    return Needs(
        env_steps=reached,
        seconds=seconds(reached),
        # a collecting process takes about as much memory as this process did before it learned
        memory_bytes=(2 if at_once else 1) * resident_bytes()
        + min(config.replay.memory_gb * 1e9, rows * row_bytes),
        rows_bytes=rows * row_bytes,
        checkpoints_bytes=checkpoints,
        free_bytes=free,
        free_at=free_at,
        update_ms=1000 * update_s,
        plan_ms=1000 * plan_s,
        row_ms=1000 * row_s,
        is_whole_episode=is_whole,
        load=load,
    )


def _most(seconds: Callable[[int], float], limit_s: float, steps: int | None) -> int:
    """The most steps, in hundreds, that take less than ``limit_s``; no more than ``steps``."""
    low, high = 0, 1
    while seconds(100 * high) < limit_s and high < 10**7:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(100 * middle) < limit_s else (low, middle)
    return 100 * low if steps is None else min(steps, 100 * low)


def _play(env: Environment, config: Config) -> tuple[Episode, Spec, float, bool]:
    """Random rows: an episode or its beginning, the spec, seconds of a row, whether it ended."""
    random = np.random.default_rng(config.seed)
    rows: list[Step] = [env.reset(0)]
    spec = Spec.of(env, rows[0], config.env.frames, config.env.fit)
    begun = time.perf_counter()
    while not rows[-1].is_last:
        action = random.uniform(env.action_low, env.action_high).astype(np.float32)
        rows.append(env.step(action))
        if time.perf_counter() - begun > PLAY_S:
            break
    seconds = (time.perf_counter() - begun) / max(1, len(rows) - 1)
    return Episode.stack(rows), spec, seconds, rows[-1].is_last


def _learn(config: Config, model: WorldModel, episode: Episode) -> float:
    """Seconds of an update."""
    replay = Replay(
        None,
        batch=config.replay.batch,
        length=config.replay.length,
        memory_bytes=int(config.replay.memory_gb * 1e9),
        tournament=config.replay.tournament,
    )
    replay.add(episode)
    if config.model.mean_image:
        model.fit(replay.images(limit=2000))
    learner, random = learner_of(config, model), np.random.default_rng(config.seed)
    return warm_seconds(lambda: learner.update(replay.sample(random)), MOST, LEARN_S)


def _plan(agent: Agent) -> float:
    """Seconds of a plan."""
    return warm_seconds(agent.plan_blank, MOST, PLAN_S)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with as many threads as a run does in the same work; None: with those of now."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def duration(seconds: float) -> str:
    """A rough duration in words: an estimate is not exact to the second."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
