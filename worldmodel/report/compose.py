"""Compose a report: measure a model, draw its sections, and write them as files and a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldmodel.agent import Agent
from worldmodel.analysis import (
    AHEAD,
    CONTEXT,
    WINDOWS,
    HorizonErrors,
    PlanReturns,
    PlansMade,
    Probe,
    RewardFit,
    Source,
    check_fit,
    fit_reward,
    follow,
    image_change,
    long_enough,
    mean_image,
    measure,
    observe,
    read_source,
    sample_futures,
    try_alternatives,
)
from worldmodel.config import Config
from worldmodel.machine import second_thread
from worldmodel.replay import cut
from worldmodel.report.attention_sections import show_attention
from worldmodel.report.folder import Folder
from worldmodel.report.latent_sections import show_latents
from worldmodel.report.mark_sections import show_marks
from worldmodel.report.page import Fact, Section, Verdict, write_page
from worldmodel.report.plan_sections import can_plan, compare_plans, show_plans
from worldmodel.report.sections import (
    SUMMARY_AHEAD,
    foresee,
    judge,
    show_alternatives,
    show_futures,
    show_horizon,
    show_learning,
    show_open_loop,
    show_reconstruction,
    show_reward,
    show_vectors,
)
from worldmodel.structs import Episode, Latent, at

WINDOWS_OF_ONE = 10  # at most from one episode: more would overlap


@dataclass(frozen=True)
class Summary:
    """The measurements and the files of a report. As text: the open-loop error in one line."""

    errors: HorizonErrors
    reward: RewardFit
    returns: PlanReturns | None = None  # None: no episode is longer than a plan's horizon
    probes: list[Probe] = field(default_factory=list)  # empty without a simulator of true states
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is missing, and how to get it

    def __str__(self) -> str:
        errors = self.errors.at(SUMMARY_AHEAD)
        return (
            f"open-loop at {errors.ahead[0]} steps: model {errors.model[0]:.4g},"
            f" hold-last {errors.hold_last[0]:.4g}, mean image {errors.mean_image[0]:.4g}"
            " (mean squared error; lower is better)"
        )


def visualize_run(
    agent: Agent,
    run: Path,
    out: Path | None = None,
    *,
    config: Config | None = None,
    made: Sequence[PlansMade] | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Write a report on the run's held-out episodes, to ``RUN/report`` unless ``out`` is given.

    ``config``: the run's settings. ``made``: the plans with which the episodes were played; without
    them the agent plans again. ``trust``: a module that its task names may be imported, to play
    the episodes again. ``say`` is called with the name of each file when it is written.
    """
    source = read_source(run)
    out = run / "report" if out is None else out
    episodes = list(source.heldout.values())
    return visualize(agent, episodes, out, source, config=config, made=made, trust=trust, say=say)


def visualize(
    agent: Agent,
    episodes: Sequence[Episode],
    out: Path,
    source: Source | None = None,
    *,
    config: Config | None = None,
    made: Sequence[PlansMade] | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Write the report of a model on episodes that it was not trained on.

    ``source``: the run's folder, with the curves, the training images and the episodes' seeds.
    ``config``: the settings that it learned with; the task's name and true states come from them.
    ``made``: the plans with which the episodes were played; without them the agent plans again.
    ``trust``: a module that the task names may be imported. ``say`` is called with the name of each
    file when it is written.
    """
    begun = time.perf_counter()
    agent.model.require_decoder()
    check_fit(agent, episodes)
    task = config.task if config is not None else ""
    long = long_enough(episodes, CONTEXT)
    folder = Folder(out, source.notes if source else (), say)
    seeds = source.seeds() if source else None

    whole = cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))
    beliefs = observe(agent, whole, whole.reward.shape[1])
    reward = fit_reward(agent, whole, beliefs)
    with second_thread() as thread:  # it measures while this one draws, so both cores are busy
        measured = thread.submit(
            measure,
            agent,
            long,
            mean_image(agent, long, source.run if source else None),
            windows=min(WINDOWS, WINDOWS_OF_ONE * len(long)),
            before_events=True,
        )
        returns = compare_plans(folder, agent, episodes, beliefs, seeds, made)
        seen = _show_predictions(folder, agent, long, task)
        seen += _show_futures(folder, agent, episodes, beliefs, returns)
        seen += show_marks(folder, agent, episodes, beliefs, source.run if source else None)
        seen.append(show_reconstruction(folder, agent, episodes[0], beliefs))
        seen += show_attention(folder, agent, episodes[0])
        learned = [show_reward(folder, reward)]
        if returns is not None:
            learned += show_plans(folder, agent, episodes, beliefs, returns)
        probes, mapped = show_latents(folder, agent, config, episodes, beliefs, seeds, trust=trust)
        errors = measured.result()
    sections = [*seen, show_horizon(folder, errors), *learned, *mapped]
    if source is not None:
        sections += show_learning(folder, source, task)
    summary = Summary(errors, reward, returns, probes, folder.files, folder.notes)
    took = time.perf_counter() - begun
    folder.write("report.html", _page(config, summary, sections, source, took).encode())
    return summary


def _show_predictions(
    folder: Folder, agent: Agent, long: Sequence[Episode], task: str
) -> list[Section]:
    prediction = foresee(agent, long)
    rows = prediction.truth.shape[1]
    moving = [image_change(episode, agent.model.spec)[:rows].sum() for episode in long]
    number = int(np.argmax(moving[: len(prediction.truth)]))  # most can be foreseen there
    beliefs = observe(agent, cut(long, [(number, 0)], rows), rows)
    course = follow(agent, long[number], at(beliefs, 0), CONTEXT, rows)
    return [
        show_open_loop(folder, prediction, course, number),
        *show_vectors(folder, prediction, task),
    ]


def _show_futures(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    returns: PlanReturns | None,
) -> list[Section]:
    """Futures from the belief in which the choice of actions matters most."""
    longest = int(np.argmax([len(episode) for episode in episodes]))
    number, row = (longest, CONTEXT - 1) if returns is None else returns.decisive(1)[0]
    episode, belief = episodes[number], at(beliefs, number)
    alternatives = try_alternatives(agent, episode, belief, row, with_plan=can_plan(agent))
    futures = sample_futures(agent, episode, belief, row, AHEAD)
    return [
        show_alternatives(folder, alternatives, number),
        show_futures(folder, futures, number),
    ]


def _page(
    config: Config | None,
    summary: Summary,
    sections: Sequence[Section],
    source: Source | None,
    seconds: float,
) -> str:
    facts = []
    lead = "What a world model sees, predicts and plans, on episodes that it was not trained on."
    evaluations = source.evaluations() if source else []
    if evaluations:
        last = evaluations[-1]
        lead += (
            f" After {last.env_steps:,} simulator steps and {last.wall_clock_s / 60:.0f} min of"
            " training."
        )
        spread = f"± {np.std(last.returns):.0f} over {len(last.returns)} episodes"
        facts.append(Fact("score", f"{np.mean(last.returns):.0f}", spread))
    return write_page(
        "a world model" if config is None else f"{config.task}, seed {config.seed}",
        lead,
        facts + _judged(summary),
        sections,
        summary.notes,
        source.settings() if source else "",
        seconds,
    )


def _judged(summary: Summary) -> list[Fact]:
    """The numbers of the head that have a verdict: errors, plans and the hardest probe."""
    near = summary.errors.at(SUMMARY_AHEAD)
    image_guesses = {"hold-last": near.hold_last[0], "the mean image": near.mean_image[0]}
    reward_guesses = {"hold-last": near.reward_hold_last[0], "the mean": near.reward_mean[0]}
    facts = [
        Fact(
            f"image error, {near.ahead[0]} rows ahead",
            f"{near.model[0]:.2g}",
            f"hold-last {near.hold_last[0]:.2g}, mean image {near.mean_image[0]:.2g}",
            judge(near.model[0], image_guesses),
        ),
        Fact(
            f"reward error, {near.ahead[0]} rows ahead",
            f"{near.reward_model[0]:.2g}",
            f"hold-last {near.reward_hold_last[0]:.2g}, mean {near.reward_mean[0]:.2g}",
            judge(near.reward_model[0], reward_guesses),
        ),
    ]
    if summary.returns is not None:
        returns = summary.returns
        facts.append(
            Fact(
                "imagined - obtained return",
                f"{returns.model_bias:+.2g}",
                f"root mean square {returns.model_error:.2g}, of {np.mean(returns.obtained):.3g}",
                judge(returns.model_error, {"the mean return": float(returns.obtained.std())}),
            )
        )
    for one in sorted(summary.probes, key=_hardness)[:1]:
        knows = one.r_squared > 0
        verdict = Verdict(
            f"{'better' if knows else 'worse'} than the mean", "good" if knows else "bad"
        )
        facts.append(Fact("read from the belief", f"R² {one.r_squared:.2f}", one.name, verdict))
    return facts


def _hardness(one: Probe) -> tuple[bool, bool]:
    """Angular velocities sort first, then other velocities: no single image shows them."""
    return "angular velocity" not in one.name, "velocity" not in one.name
