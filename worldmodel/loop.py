"""The outer loop: seed episodes, then learn and collect, round after round, until told to stop.

One round: the planner plays an episode with the weights from before the round, while the learner
makes the updates that the steps so far have earned; then both join. A checkpoint holds the whole
round, the acting weights included, so a run may stop between any two updates and go on as if it
had not.
"""

from __future__ import annotations

import copy
import functools
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from worldmodel import checkpoint
from worldmodel.agent import Agent
from worldmodel.assembly import learner_of
from worldmodel.checks import ConfigError, require
from worldmodel.config import UPDATES_PER_ROW, Config, EnvConfig
from worldmodel.envs import Environment, adopt, check_env, make_env
from worldmodel.log import Journal
from worldmodel.machine import cores, keep_memory
from worldmodel.models import build
from worldmodel.progress import Group, Progress
from worldmodel.replay import Replay, bytes_per_row
from worldmodel.rollout import (
    EVALUATION_SEED,
    IN_STEP,
    Collector,
    Evaluated,
    Fleet,
    InlineCollector,
    Job,
    JobDone,
    Played,
    ProcessCollector,
    evaluate,
)
from worldmodel.run_folder import (
    claim,
    create,
    default_run,
    keep_heldout,
    refuse_other_settings,
)
from worldmodel.structs import Spec

FINAL_EPISODES = 10  # of the evaluation at the end
SHOWN = (  # of a row of metrics.jsonl, while it trains
    Group({"score": "score", "train_return": "training"}, has_curves=True),
    Group({"loss/": ""}, "losses", has_curves=True),
    Group(
        {"updates_per_s": "updates/s", "frames_per_s": "frames/s", "plan_ms": "ms a plan"}, "speed"
    ),
)
CHECKPOINT_SECONDS = 60.0  # at the end of a round, if the last one is older
REPORT_SECONDS = 2.0  # between two looks at the losses while learning
# Groups of a checkpoint in which no number may be NaN or infinite; a row that nobody has learned
# from surprises infinitely.
FINITE = ("model", "averaged", "acting", "optimizer", "learner")


@dataclass(frozen=True)
class Outcome:
    """How a call of ``train`` ended."""

    run: Path
    env_steps: int
    updates: int
    wall_clock_s: float
    returns: list[float]  # of the last evaluation; empty before the first
    interrupted: bool


def train(
    config: Config,
    run: Path | str | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    env: Any = None,
) -> Outcome:
    """Begin a run, or go on with it: the same call again resumes.

    ``steps`` and ``minutes`` are totals over all sittings; where one is reached, the final weights
    are evaluated over FINAL_EPISODES. ``env``: an object of your own in place of ``config.task``,
    which plays in this process; or a function that makes one, which then plays in a process of
    its own and is replaced where it dies or hangs. SIGINT and SIGTERM write a checkpoint and
    return.
    """
    run = Path(run) if run is not None else default_run("default", config)
    refuse_other_settings(run, config)
    make: Callable[[], Environment]
    make = functools.partial(make_env, config.task, config.env, config.seed)
    if callable(env) and not hasattr(env, "step"):
        make, env = functools.partial(_make_own, _importable(env), config.env), None
    if env is not None:
        check_env(env)
        env = adopt(env, config.env)
    keep_memory()
    shown = env or make()  # complaints come before files
    training = Training(config, run, shown, make, own_env=env is not None, device=device)
    try:
        title = f"{config.task} seed {config.seed} -> {run}"
        with Progress(title, steps, minutes, SHOWN) as progress:
            training.go_on(steps, minutes, progress)
            return training.finish(progress)
    finally:
        training.close()


def _make_own(make: Callable[[], Any], config: EnvConfig) -> Environment:
    env = make()
    check_env(env)
    return adopt(env, config)


def _importable(make: Callable[[], Any]) -> Callable[[], Any]:
    name = getattr(make, "__qualname__", "")
    if "<" in name:
        raise ConfigError(
            "env: a function that makes an environment is called in a process of its own, so it"
            f" must stand at the top of a module; got {name}"
        )
    return make


class Training:
    """Everything between two rounds of one run."""

    def __init__(
        self,
        config: Config,
        run: Path,
        env: Environment,
        make: Callable[[], Environment] | None = None,
        *,
        own_env: bool,
        device: str,
    ) -> None:
        self.config = config
        self.run = run
        torch.manual_seed(config.seed)
        spec = Spec.of(env, env.reset(0))
        complaint = config.wrong_image_size(spec.image[0])
        require(
            not complaint,
            f"image: {complaint}; type: image = worldmodel.envs.resize(image, 64)",
        )
        self.model = build(config.model, spec).to(device)
        self.acting = copy.deepcopy(self.model).to("cpu").requires_grad_(False)
        Agent(self.acting, config)  # a planner that does not fit complains before there are files
        self.row_bytes = bytes_per_row(spec.image, spec.action_size, sum(spec.vectors.values()))
        windows = config.replay.batch * config.replay.length * self.row_bytes
        if windows > config.replay.memory_gb * 1e9:
            raise ConfigError(
                f"replay.memory_gb: one batch alone needs {windows / 1e9:.3f} GB,"
                f" got {config.replay.memory_gb}"
            )
        create(run, config, env, spec)
        self.claim = claim(run)
        self.replay = Replay(
            run / "replay",
            batch=config.replay.batch,
            length=config.replay.length,
            memory_bytes=int(config.replay.memory_gb * 1e9),
            disk_share=config.replay.disk_share,
            draws=config.replay.draws,
        )
        self.journal = Journal(run)
        self.learner = learner_of(config, self.model)
        self.data_random = np.random.default_rng(config.seed)
        self.updates = 0
        self.seed_env_steps = 0
        self.next_evaluation = 0  # env_steps
        self.seconds_before = 0.0  # of earlier sittings
        self.begun = time.monotonic()
        self.saved_at = -np.inf
        self.returns: list[float] = []
        self.evaluated_at = 0  # updates, of the last evaluation that ended a sitting
        self.dropped = 0
        self.skipped = 0  # updates whose gradient was not finite
        self.replaced = 0  # collecting processes that died or hung
        self.interrupted = False
        self.own_env = env if own_env else None
        self.make = make or functools.partial(make_env, config.task, config.env, config.seed)
        try:
            self._restore()
        except BaseException:
            self.claim.close()
            raise
        self.collector: Collector
        if own_env:
            self.collector = InlineCollector(Fleet.of(env), self.acting, config)
            return
        env.close()
        if cores() < 2:
            self.collector = InlineCollector(Fleet(self.make, IN_STEP), self.acting, config)
            return
        self.collector = ProcessCollector(self.acting, config, self.make)
        if device == "cpu":
            torch.set_num_threads(max(1, cores() // 2))  # two gradients are found side by side

    @property
    def wall_clock_s(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def go_on(self, steps: int | None, minutes: float | None, progress: Progress) -> None:
        """Round after round, until a limit or a signal."""
        need = self.row_bytes * (steps or 100_000)
        progress.event(
            f"replay needs {need / 1e9:.2f} GB for {steps or 100_000:,} rows at most; memory holds"
            f" {self.config.replay.memory_gb:g} GB of it, the disk"
            f" {shutil.disk_usage(self.run).free / 1e9:.0f} GB"
        )
        with _signals() as stopped:

            def ended() -> bool:
                return bool(stopped) or (minutes is not None and self.wall_clock_s >= minutes * 60)

            self._seed(ended, progress)
            while not ended() and (steps is None or self.replay.env_steps < steps):
                self._round(self._affordable(steps), ended, progress)
            if self.replay.episodes >= self.config.loop.seed_episodes:
                self.save()
                progress.event(f"checkpoint at {self.replay.env_steps:,} env steps")
        self.interrupted = bool(stopped)

    def finish(self, progress: Progress) -> Outcome:
        """The score of the weights as they are, unless somebody asked to leave."""
        if not self.interrupted and self.updates and self.evaluated_at != self.updates:
            fleet = Fleet.of(self.own_env) if self.own_env else Fleet(self.make, IN_STEP)
            agent = Agent(self.learner.averaged, self.config)
            progress.event(f"playing {FINAL_EPISODES} episodes to evaluate the final weights")
            dropped: list[str] = []
            envs = fleet.several(FINAL_EPISODES)
            self._record(
                evaluate(agent, envs, FINAL_EPISODES, EVALUATION_SEED, dropped=dropped), progress
            )
            self._tell_dropped(dropped, progress)
            if self.own_env is None:
                fleet.close()
            self.evaluated_at = self.updates
            self.save()
        return Outcome(
            self.run,
            self.replay.env_steps,
            self.updates,
            self.wall_clock_s,
            self.returns,
            self.interrupted,
        )

    def _seed(self, ended: Callable[[], bool], progress: Progress) -> None:
        """Random episodes, and the first updates on them, before anything is planned."""
        loop = self.config.loop
        while self.replay.episodes < loop.seed_episodes and not ended():
            self.collector.begin(Job(self.replay.episodes, random=True))
            self._keep(self.collector.end(), progress)
        if self.replay.episodes < loop.seed_episodes or self.updates >= loop.seed_updates:
            return
        if self.updates == 0:
            self.seed_env_steps = self.replay.env_steps
            if self.config.model.mean_image:
                self.model.pixels.fit(self.replay.images(limit=2000))
        self._learn(loop.seed_updates, ended, progress)
        if self.updates >= loop.seed_updates:
            self._act_with_learned()

    def _affordable(self, steps: int | None) -> int:
        """Episodes of the next round: as set, or as few as take the steps that are left."""
        most = self.config.loop.together
        if steps is None:
            return most
        per_episode = self.replay.env_steps / self.replay.episodes
        return min(most, math.ceil((steps - self.replay.env_steps) / per_episode))

    def _round(self, count: int, ended: Callable[[], bool], progress: Progress) -> None:
        loop = self.config.loop
        steps = self.replay.env_steps
        evaluate = steps >= self.next_evaluation
        self.collector.begin(
            Job(
                self.replay.episodes,
                count=count,
                evaluation_episodes=loop.evaluate_episodes if evaluate else 0,
            )
        )
        self._learn(self._earned(), ended, progress)
        if ended():
            return  # the episode under way is played again, from the acting weights
        done = self.collector.end()
        if done.evaluated is not None:
            self._record(done.evaluated, progress)
            self.next_evaluation = steps - steps % loop.evaluate_every + loop.evaluate_every
        self._keep(done, progress)
        self._act_with_learned()
        if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            self.save()
            progress.update({"checkpoint_env_steps": self.replay.env_steps})

    def _earned(self) -> int:
        """Updates that the collected steps have earned so far."""
        loop, replay = self.config.loop, self.replay
        collected = replay.env_steps - self.seed_env_steps
        rate = loop.updates
        if rate is None:
            actions = replay.rows - replay.episodes  # the first row of an episode follows none
            rate = 1000 * UPDATES_PER_ROW / (replay.env_steps / actions)
        return loop.seed_updates + int(rate * collected / 1000)

    def _learn(self, until: int, ended: Callable[[], bool], progress: Progress) -> None:
        begun, first, reported = time.monotonic(), self.updates, time.monotonic()
        sums: dict[str, float] = {}
        while self.updates < until and not ended():
            batch = self.replay.sample(self.data_random)
            update = self.learner.update(batch)
            if update.priority is not None:
                self.replay.learned_from(batch.window, update.priority)
            self.updates += 1
            if update.skipped:
                self._tell_skipped(progress)
            for name, value in update.metrics.items():
                sums[name] = sums.get(name, 0.0) + value
            now = time.monotonic()
            if now - reported > REPORT_SECONDS or self.updates == until:
                reported = now
                count = self.updates - first
                progress.update(
                    {
                        "env_steps": self.replay.env_steps,
                        "wall_clock_s": self.wall_clock_s,
                        "updates_per_s": count / (now - begun),
                        "skipped_updates": self.skipped,
                        **{f"loss/{name}": value / count for name, value in sums.items()},
                    }
                )
        count = self.updates - first
        if count:
            self.journal.metrics(
                {
                    "env_steps": self.replay.env_steps,
                    "wall_clock_s": self.wall_clock_s,
                    "updates": self.updates,
                    "updates_per_s": count / (time.monotonic() - begun),
                    "skipped_updates": self.skipped,
                    **{f"loss/{name}": value / count for name, value in sums.items()},
                }
            )

    def _tell_skipped(self, progress: Progress) -> None:
        """Count an update without a finite gradient, and say so the first time."""
        if self.skipped == 0:
            progress.event(
                f"update {self.updates:,} was skipped: its gradient was NaN or infinite; later ones"
                " are counted as skipped_updates in metrics.jsonl"
            )
        self.skipped += 1

    def _keep(self, done: JobDone, progress: Progress) -> None:
        """Collected episodes become experience."""
        self._tell_dropped(done.dropped, progress)
        for reason in done.replaced:
            self.replaced += 1
            progress.event(f"{reason}; a new one began the episode again ({self.replaced} so far)")
        for played in done.played:
            self._add(played, progress)

    def _add(self, played: Played, progress: Progress) -> None:
        self.replay.add(played.episode)
        row: dict[str, float | int] = {
            "env_steps": self.replay.env_steps,
            "wall_clock_s": self.wall_clock_s,
            "episodes": self.replay.episodes,
            "train_return": played.episode.total_reward,
            "dropped_episodes": self.dropped,
            "replaced_processes": self.replaced,
            "frames_per_s": len(played.episode) / played.seconds,
        }
        if len(played.plan_milliseconds):
            row["plan_ms"] = float(np.median(played.plan_milliseconds))
        self.journal.metrics(row)
        progress.update(row)

    def _tell_dropped(self, reasons: Sequence[str], progress: Progress) -> None:
        for reason in reasons:
            self.dropped += 1
            progress.event(f"episode dropped ({self.dropped} so far): {reason}")

    def _record(self, evaluated: Evaluated, progress: Progress) -> None:
        """Scores to the files, episodes to the held-out folder: they are never trained on."""
        self.returns = evaluated.returns.tolist()
        self.journal.evaluation(
            self.replay.env_steps, self.wall_clock_s, self.returns, evaluated.seeds
        )
        keep_heldout(self.run, evaluated)
        self.journal.show(self.replay.env_steps, evaluated.episodes)
        score = float(np.mean(self.returns))
        progress.update({"score": score})
        progress.event(
            f"score {score:.1f} ± {np.std(self.returns):.1f} over {len(self.returns)} episodes"
            f" at {self.replay.env_steps:,} env steps"
        )

    def _act_with_learned(self) -> None:
        self.acting.load_state_dict(self.learner.averaged.state_dict())

    def save(self) -> None:
        checkpoint.save(
            self.run / "checkpoints",
            self.updates,
            {
                "model": self.model.state_dict(),
                "averaged": self.learner.averaged.state_dict(),
                "acting": self.acting.state_dict(),
                "optimizer": checkpoint.pack_optimizer(self.learner.optimizer),
                "learner": self.learner.state(),
                "surprise": self.replay.state(),
            },
            {
                "updates": self.updates,
                "episodes": self.replay.episodes,
                "seed_env_steps": self.seed_env_steps,
                "next_evaluation": self.next_evaluation,
                "wall_clock_s": self.wall_clock_s,
                "returns": self.returns,
                "evaluated_at": self.evaluated_at,
                "dropped": self.dropped,
                "replaced": self.replaced,
                "skipped": self.skipped,
                "data_random": checkpoint.numpy_state(self.data_random),
                "journal": self.journal.position(),
            },
            finite=FINITE,
        )
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        device = next(self.model.parameters()).device
        saved = checkpoint.load(self.run / "checkpoints", device, finite=FINITE)
        if saved is None:
            # nothing was learned yet; the seed episodes that are there follow from their numbers
            self.replay.keep_first(min(self.replay.episodes, self.config.loop.seed_episodes))
            self.journal.rewind({})
            return
        self.model.load_state_dict(saved.tensors["model"])
        self.learner.averaged.load_state_dict(saved.tensors["averaged"])
        self.acting.load_state_dict(saved.tensors["acting"])
        checkpoint.unpack_optimizer(self.learner.optimizer, saved.tensors["optimizer"])
        self.learner.restore(saved.tensors["learner"])
        state = saved.state
        self.updates = state["updates"]
        self.seed_env_steps = state["seed_env_steps"]
        self.next_evaluation = state["next_evaluation"]
        self.seconds_before = state["wall_clock_s"]
        self.returns = state["returns"]
        self.evaluated_at = state["evaluated_at"]
        self.dropped = state["dropped"]
        self.replaced = state.get("replaced", 0)  # checkpoints from before it was counted
        self.skipped = state.get("skipped", 0)  # likewise
        checkpoint.set_numpy_state(self.data_random, state["data_random"])
        self._refuse_lost_replay(state["episodes"])
        self.replay.keep_first(state["episodes"])
        self._refuse_lost_replay(state["episodes"])  # those it kept may be the missing ones
        if "surprise" in saved.tensors:  # checkpoints from before it was known have none
            self.replay.restore(saved.tensors["surprise"])
        self.journal.rewind(state["journal"])

    def _refuse_lost_replay(self, episodes: int) -> None:
        if episodes and not self.replay.rows:
            raise ConfigError(
                f"replay: all {episodes} episodes of {self.run / 'replay'} are missing or broken;"
                " restore them, or begin anew with --run and another folder"
            )

    def close(self) -> None:
        self.collector.close()
        self.claim.close()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came: the first asks to leave in order, the second leaves at once."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs it there handles signals
        yield came
        return
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
