"""What a collector gives to a run: episodes for its replay, and the score of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldmodel.loop.reporter import Reporter
from worldmodel.loop.training import Training
from worldmodel.rollout import Evaluated, JobDone, Played
from worldmodel.run_folder import keep_heldout


def add_collected(training: Training, done: JobDone, reporter: Reporter) -> None:
    """Add collected episodes to the replay; report what was dropped or replaced."""
    report_dropped(training, done.dropped, reporter)
    for reason in done.replaced:
        replaced = training.state.replaced + 1
        training.count(replaced=replaced)
        reporter.event(f"{reason}; a new one began the episode again ({replaced} so far)")
    for played in done.played:
        _add(training, played, reporter)


def _add(training: Training, played: Played, reporter: Reporter) -> None:
    training.replay.add(played.episode)
    numbers: dict[str, float | int] = {
        **training.where(),
        "episodes": training.replay.episodes,
        "train_return": played.episode.total_reward,
        "dropped_episodes": training.state.dropped,
        "replaced_processes": training.state.replaced,
        "frames_per_s": len(played.episode) / played.seconds,
    }
    if len(played.plan_milliseconds):
        numbers["plan_ms"] = float(np.median(played.plan_milliseconds))
    reporter.numbers(numbers)


def learn_from_round(training: Training, done: JobDone, reporter: Reporter) -> None:
    """Let the behaviour learn from the round's episodes, if its kind does; write its figures."""
    figures = training.learner.collected([played.episode for played in done.played])
    if figures:
        reporter.numbers({**training.where(), **figures})


def report_dropped(training: Training, reasons: Sequence[str], reporter: Reporter) -> None:
    for reason in reasons:
        dropped = training.state.dropped + 1
        training.count(dropped=dropped)
        reporter.event(f"episode dropped ({dropped} so far): {reason}")


def record(training: Training, evaluated: Evaluated, reporter: Reporter) -> None:
    """Write the scores, and the episodes to the held-out folder: training never uses them."""
    training.count(returns=evaluated.returns.tolist())
    keep_heldout(training.run, evaluated)
    reporter.evaluation(training.replay.env_steps, training.wall_clock_s, evaluated)
