"""Learning online: seed episodes, then rounds of learning and collecting.

In one round the planner plays an episode with the weights from before the round, while the learner
makes the updates that the steps collected so far allow; then the round waits for both. A
checkpoint holds the state within a round, the acting weights included, so a run that stops between
any two updates resumes with the same results.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from worldmodel import signals
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, require
from worldmodel.config import UPDATES_PER_ROW, Config
from worldmodel.loop.collected import add_collected, learn_from_round, record, report_dropped
from worldmodel.loop.disk import disk_line, full_disk_explained, refuse_little_disk
from worldmodel.loop.environments import Environments
from worldmodel.loop.forecast import Schedule
from worldmodel.loop.outlook import Outlook
from worldmodel.loop.pretraining import load_encoder
from worldmodel.loop.reporter import SHOWN, OnRound, Reporter
from worldmodel.loop.training import Training
from worldmodel.machine import cores, keep_memory, learning_threads
from worldmodel.models import WorldModel, build
from worldmodel.models.encoders import PretrainedSettings
from worldmodel.planners import ILQR
from worldmodel.progress import Progress
from worldmodel.replay import Replay, bytes_per_row
from worldmodel.rollout import (
    EVALUATION_SEED,
    Collector,
    InlineCollector,
    Job,
    ProcessCollector,
    evaluate,
)
from worldmodel.run_folder import (
    claim,
    create,
    default_run,
    refuse_other_settings,
)
from worldmodel.structs import Spec

FINAL_EPISODES = 10  # of the evaluation at the end
CHECKPOINT_SECONDS = 60.0  # a round ends with a checkpoint if the last one is older than this


@dataclass(frozen=True, repr=False)
class Outcome:
    """The result of a call of ``train``."""

    run: Path
    env_steps: int
    updates: int
    wall_clock_s: float
    returns: Sequence[float]  # of the last evaluation; empty before the first
    interrupted: bool

    def __repr__(self) -> str:
        parts = [
            f"{self.run}: {self.env_steps:,} env steps",
            f"{self.updates:,} updates",
            f"{self.wall_clock_s / 60:.1f} minutes",
        ]
        if len(self.returns):
            mean, spread = np.mean(self.returns), np.std(self.returns)
            parts.append(f"score {mean:.1f} ± {spread:.1f} over {len(self.returns)} episodes")
        if self.interrupted:
            parts.append("interrupted")
        return f"Outcome({', '.join(parts)})"


def train(
    config: Config,
    run: Path | str | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    env: Any = None,
    on_round: OnRound | None = None,
) -> Outcome:
    """Begin a run, or resume it: the same call again continues it.

    ``steps`` and ``minutes`` are totals over all calls; when one is reached, the final weights are
    evaluated over FINAL_EPISODES. ``env`` replaces ``config.task``: an object of your own, which
    plays in this process; or a function that makes one, which is called in a process of its own,
    and again when that process dies or hangs. On SIGINT and SIGTERM, write a checkpoint and return.

    ``on_round`` is called with a ``Round`` after each round and after the final evaluation, in this
    process, so the run waits for it. An error in it ends the call after a checkpoint was written:
    the same call resumes the run.
    """
    run = Path(run) if run is not None else default_run("default", config)
    refuse_other_settings(run, config)
    environments = Environments.of(config, env)
    keep_memory()
    with full_disk_explained(run):
        online = open_run(config, run, environments, device=device)
        try:
            title = f"{config.task} seed {config.seed} -> {run}"
            with Progress(title, steps, minutes, SHOWN) as progress:
                reporter = Reporter(online.training.journal, progress, on_round)
                online.go_on(steps, minutes, reporter)
                return online.finish(reporter)
        finally:
            online.close()


def open_run(
    config: Config, run: Path, environments: Environments, *, device: str = "cpu"
) -> Online:
    """Open a run in the state of its newest checkpoint, or at its beginning.

    Settings and environment are checked before a file is written.
    """
    require(
        not isinstance(config.planner, ILQR) or config.planning.goal is not None,
        "planner.kind: ilqr plans for a score with a cost, as agent.goal(picture) is, and"
        " planning.goal is none, so a run plans for the learned reward; write planning.goal: {},"
        " or train with another planner, and then plan with agent.changed(planner=ILQR())",
    )
    env = environments.make()
    torch.manual_seed(config.seed)
    spec = Spec.of(env, env.reset(0), config.env.frames, config.env.fit)
    complaint = config.wrong_image_size(spec.image[0])
    require(
        not complaint,
        f"image: {complaint}; the environment was made with other settings than this run's: make it"
        " with worldmodel.make_env(config.task, config.env)",
    )
    require(
        config.planning.goal is None or env.goal() is not None,
        f"planning.goal: the task {config.task} gives no goal image to plan to; choose toy,"
        " planar or pendulum, or point_mass_easy, cartpole_balance or reacher_easy of dm_control,"
        " give your environment a method goal(), or write planning.goal: none",
    )
    model = build(config.model, spec).to(device)
    if isinstance(config.model.encoder, PretrainedSettings) and not (run / "checkpoints").is_dir():
        load_encoder(model, config.model.encoder)  # later its weights are in the checkpoints
    acting = copy.deepcopy(model).to("cpu").requires_grad_(False)
    agent_of(config, acting)  # raises if the planner does not fit
    row_bytes = bytes_per_row(spec.image, spec.action_size, sum(spec.vectors.values()))
    refuse_little_memory(config, row_bytes)
    refuse_little_disk(run, model)

    create(run, config, env, spec)
    claimed = claim(run)
    try:
        replay = Replay(
            run / "replay",
            batch=config.replay.batch,
            length=config.replay.length,
            memory_bytes=int(config.replay.memory_gb * 1e9),
            disk_share=config.replay.disk_share,
            tournament=config.replay.tournament,
        )
        training = Training(config, run, model, replay)
        resume(training, acting, config.loop.seed_episodes)
        if environments.own is None:
            env.close()
        collector = start_collector(config, environments, acting)
    except BaseException:
        claimed.close()
        raise
    if isinstance(collector, ProcessCollector):
        torch.set_num_threads(learning_threads(device) or torch.get_num_threads())
    return Online(config, training, acting, environments, collector, row_bytes, claimed)


def refuse_little_memory(config: Config, row_bytes: int) -> None:
    """Raise if the memory of the replay cannot hold one batch."""
    batch = config.replay.batch * config.replay.length * row_bytes
    require(
        batch <= config.replay.memory_gb * 1e9,
        f"replay.memory_gb: one batch alone needs {batch / 1e9:.3f} GB,"
        f" got {config.replay.memory_gb}",
    )


def resume(training: Training, acting: WorldModel, seed_episodes: int) -> None:
    """Restore the newest checkpoint; drop episodes and log lines from after it."""
    replay, saved = training.replay, training.newest()
    if saved is None:
        # nothing was learned yet; seed episodes depend on their numbers only, so they may stay
        replay.keep_first(min(replay.episodes, seed_episodes))
        training.journal.rewind({})
        return
    refuse_lost_replay(replay, saved.state["episodes"])
    replay.keep_first(saved.state["episodes"])
    refuse_lost_replay(replay, saved.state["episodes"])  # the dropped ones may have been the last
    training.restore(saved)
    acting.load_state_dict(saved.tensors["acting"])


def refuse_lost_replay(replay: Replay, episodes: int) -> None:
    """Raise if the run has collected episodes and none of them can be read."""
    if episodes and not replay.rows:
        raise ConfigError(
            f"replay: all {episodes} episodes of {replay.folder} are missing or broken;"
            " restore them, or begin a new run with --run and another folder"
        )


def start_collector(config: Config, environments: Environments, acting: WorldModel) -> Collector:
    """A collector; in a process of its own if there is a core for it and a way to make the env."""
    if environments.own is not None or cores() < 2:
        return InlineCollector(environments.fleet(), acting, config)
    return ProcessCollector(acting, config, environments.make)


class Online:
    """The rounds of one run: a collector acts while the training learns."""

    def __init__(
        self,
        config: Config,
        training: Training,
        acting: WorldModel,
        environments: Environments,
        collector: Collector,
        row_bytes: int,
        claimed: IO[bytes],
    ) -> None:
        self.config = config
        self.training = training
        self.acting = acting  # plays the present episode; the learner does not change it
        self.environments = environments
        self.collector = collector
        self.row_bytes = row_bytes
        self.interrupted = False
        self._claimed = claimed

    def go_on(self, steps: int | None, minutes: float | None, reporter: Reporter) -> None:
        """Do rounds until a limit or a signal."""
        training, replay = self.training, self.training.replay
        reporter.event(disk_line(training.run, training.model, self.row_bytes, steps or 100_000))
        for line in training.model.spec.fitting.in_words():
            reporter.event(line)
        schedule = Schedule.of(self.config.loop, FINAL_EPISODES, steps, minutes)
        self._outlook = Outlook(schedule, training, self.collector, reporter)
        self._outlook.remember()
        with signals.noted() as received:

            def ended() -> bool:
                late = minutes is not None and training.wall_clock_s >= minutes * 60
                return bool(received) or late

            behaviour = self.config.behaviour
            on_newest = behaviour is not None and behaviour.reads == "newest"
            one_round = self._round_of_newest if on_newest else self._round
            self._seed(ended, reporter)
            while not ended() and (steps is None or replay.env_steps < steps):
                if one_round(self._affordable(steps), ended, reporter):
                    self._report_round(reporter)
            if replay.episodes >= self.config.loop.seed_episodes:
                self.checkpoint(reporter)
                reporter.event(f"checkpoint at {replay.env_steps:,} env steps")
        self.interrupted = bool(received)

    def finish(self, reporter: Reporter) -> Outcome:
        """Evaluate the final weights, unless a signal interrupted the run."""
        training, state = self.training, self.training.state
        if not self.interrupted and state.updates and state.evaluated_at != state.updates:
            fleet = self.environments.fleet()
            agent = agent_of(self.config, training.learner.averaged)
            self._outlook.begin_final()
            dropped: list[str] = []
            evaluated = evaluate(
                agent,
                fleet.several(FINAL_EPISODES),
                FINAL_EPISODES,
                EVALUATION_SEED,
                dropped=dropped,
                on_row=self._outlook.final_row,
            )
            record(training, evaluated, reporter)
            report_dropped(training, dropped, reporter)
            if self.environments.own is None:
                fleet.close()
            training.count(evaluated_at=state.updates)
            self.checkpoint(reporter)
            self._report_round(reporter, is_final=True)
        return Outcome(
            training.run,
            training.replay.env_steps,
            training.state.updates,
            training.wall_clock_s,
            training.state.returns,
            self.interrupted,
        )

    def save(self) -> None:
        """Write a checkpoint of everything, the acting weights included."""
        self.training.save({"acting": self.acting.state_dict()})

    def checkpoint(self, reporter: Reporter) -> None:
        """Write a checkpoint, and show when it was written."""
        self.save()
        reporter.checkpoint(self.training.replay.env_steps, self.training.wall_clock_s)

    def close(self) -> None:
        self.collector.close()
        self._claimed.close()

    def _seed(self, ended: Callable[[], bool], reporter: Reporter) -> None:
        """Collect random episodes, then make the first updates on them."""
        loop, training, replay = self.config.loop, self.training, self.training.replay
        while replay.episodes < loop.seed_episodes and not ended():
            job = Job(replay.episodes, random=True)
            self._outlook.begin_job(job, loop.seed_updates, self._updates_per_1000())
            self.collector.begin(job, self._outlook.look)
            add_collected(self.training, self.collector.end(), reporter)
        if replay.episodes < loop.seed_episodes or training.state.updates >= loop.seed_updates:
            return
        if training.state.updates == 0:
            training.count(seed_env_steps=replay.env_steps)
            if self.config.model.fits_pixels:
                training.model.fit(replay.images(limit=2000))
        agent = agent_of(self.config, self.acting)
        self._outlook.begin_updates(loop.seed_updates, self._updates_per_1000(), agent)
        training.learn(loop.seed_updates, ended, reporter, self._outlook.updated)
        if training.state.updates >= loop.seed_updates:
            self._act_with_learned()

    def _affordable(self, steps: int | None) -> int:
        """The episodes of the next round: as set, or fewer if fewer steps are left."""
        most, replay = self.config.loop.episodes_at_once, self.training.replay
        if steps is None:
            return most
        per_episode = replay.env_steps / replay.episodes
        return min(most, math.ceil((steps - replay.env_steps) / per_episode))

    def _round(self, count: int, ended: Callable[[], bool], reporter: Reporter) -> bool:
        """Collect and learn; False if the end came first.

        Then the same episode is played again from its beginning when the run resumes.
        """
        training, steps = self.training, self.training.replay.env_steps
        self._begin_collecting(count)
        training.learn(self._updates_due(), ended, reporter, self._outlook.updated)
        if ended():
            return False
        self._end_collecting(steps, reporter)
        self._end_round(reporter)
        return True

    def _round_of_newest(self, count: int, ended: Callable[[], bool], reporter: Reporter) -> bool:
        """Collect, then learn from what was collected; False if the end came first.

        Nobody acts while the policy learns: its newest rows would be those of an earlier policy.
        A run that stopped while it learned goes on with learning.
        """
        training = self.training
        if training.state.updates >= self._updates_due():
            first, steps = training.replay.episodes, training.replay.env_steps
            self._begin_collecting(count)
            self._end_collecting(steps, reporter)
            assert training.learner.behaviour is not None
            training.learner.behaviour.acted(first)
        due = self._updates_due()
        training.learn(due, ended, reporter, self._outlook.updated)
        if training.state.updates < due:
            return False
        self._end_round(reporter)
        return True

    def _begin_collecting(self, count: int) -> None:
        steps = self.training.replay.env_steps
        evaluate = steps >= self.training.state.next_evaluation
        job = Job(
            self.training.replay.episodes,
            count=count,
            env_steps=steps,
            evaluation_episodes=self.config.loop.evaluate_episodes if evaluate else 0,
        )
        self._outlook.begin_job(job, self._updates_due(), self._updates_per_1000())
        self.collector.begin(job, self._outlook.look)

    def _end_collecting(self, steps: int, reporter: Reporter) -> None:
        """``steps``: those before this round."""
        done = self.collector.end()
        if done.evaluated is not None:
            record(self.training, done.evaluated, reporter)
            every = self.config.loop.evaluate_every
            self.training.count(next_evaluation=steps - steps % every + every)
        add_collected(self.training, done, reporter)
        learn_from_round(self.training, done, reporter)

    def _end_round(self, reporter: Reporter) -> None:
        training = self.training
        self._act_with_learned()
        training.count(rounds=training.state.rounds + 1)
        if time.monotonic() - training.saved_at > CHECKPOINT_SECONDS:
            self.checkpoint(reporter)

    def _report_round(self, reporter: Reporter, is_final: bool = False) -> None:
        """Report to the caller; if that raises, write a checkpoint before the error goes on."""
        training = self.training
        try:
            reporter.round(
                training.run,
                {**training.where(), "episodes": training.replay.episodes},
                training.state,
                is_final,
            )
        except BaseException:
            self.checkpoint(reporter)
            raise

    def _updates_due(self) -> int:
        """The total of updates for the steps collected so far, at the set rate."""
        collected = self.training.replay.env_steps - self.training.state.seed_env_steps
        return self.config.loop.seed_updates + int(self._updates_per_1000() * collected / 1000)

    def _updates_per_1000(self) -> float:
        """Updates for each 1000 steps; if no rate is set, it depends on the steps of an action."""
        replay, rate = self.training.replay, self.config.loop.updates
        if rate is None:
            actions = replay.rows - replay.episodes  # the first row of an episode follows none
            rate = 1000 * UPDATES_PER_ROW / (replay.env_steps / actions) if actions else 0.0
        return rate

    def _act_with_learned(self) -> None:
        self.acting.load_state_dict(self.training.learner.averaged.state_dict())
