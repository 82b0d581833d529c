"""Sections on what the model sees and predicts: pictures, and what is seen in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import (
    AHEAD,
    CONTEXT,
    Alternatives,
    Course,
    Futures,
    HorizonErrors,
    Prediction,
    RewardFit,
    Source,
    decode,
    name_parts,
    predict,
    psnr,
)
from worldmodel.log import Evaluation
from worldmodel.published import published
from worldmodel.replay import cut
from worldmodel.report.figures import (
    plot_course,
    plot_curves,
    plot_errors,
    plot_reward,
    plot_vectors,
)
from worldmodel.report.films import draw_alternatives, draw_film
from worldmodel.report.folder import Folder
from worldmodel.report.page import Section, Table, Verdict
from worldmodel.report.palette import DARK
from worldmodel.report.strips import (
    EPISODES_SHOWN,
    STRIP_MOMENTS,
    strip_alternatives,
    strip_futures,
    strip_open_loop,
    strip_reconstructions,
)
from worldmodel.structs import Episode, Latent, at

SUMMARY_AHEAD = 10  # rows ahead, of the errors in the summary
SAME = 1e-3  # futures whose mean standard deviation is smaller look the same

ERRORS_HEADER = """\
# mean squared errors of predictions without images, by rows ahead of the last image seen
# model, hold_last, mean_image: of images, pixels in [0, 1]; psnr in decibels; reward_*: of rewards
# windows: how many windows each mean is over; all columns use the same windows
"""


def foresee(agent: Agent, long: Sequence[Episode]) -> Prediction:
    """Predict the first episodes from their first rows."""
    begins = [(number, 0) for number in range(min(EPISODES_SHOWN, len(long)))]
    rows = min(CONTEXT + AHEAD, max(len(long[number]) for number, _ in begins))
    return predict(agent, cut(long, begins, rows))


def judge(model: float, guesses: Mapping[str, float]) -> Verdict:
    """Compare an error with those of guesses without a model."""
    worse = [name for name, error in guesses.items() if model >= error]
    better = [name for name in guesses if name not in worse]
    if not worse:
        return Verdict(f"better than {_all(better)}", "good")
    is_equal = all(model == guesses[name] for name in worse)
    words = f"{'no better' if is_equal else 'worse'} than {_all(worse)}"
    if not better:
        return Verdict(words, "bad")
    return Verdict(f"{words}, better than {_all(better)}", "mixed")


def _all(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "both guesses"


def show_open_loop(folder: Folder, prediction: Prediction, course: Course, episode: int) -> Section:
    alt = "truth, model and error of several episodes, side by side"
    film = folder.video("open_loop", draw_film(prediction, DARK), alt)
    return Section(
        "What it predicts",
        f"The model sees {CONTEXT} images of an episode that it was not trained on, then imagines"
        " the next ones from the actions alone.",
        "Compare the rows truth and model: where they differ, a plan that looks as far ahead cannot"
        " be trusted.",
        [
            film,
            *folder.figure("course.png", lambda: plot_course(course)),
            folder.strip("open_loop.png", strip_open_loop(prediction)),
        ],
        f"The charts follow episode {episode} of the film, in which most changes. Surprise is the"
        " divergence (KL) of the belief with the row's image from the belief without it: a peak is"
        " an image that the model did not expect. Reward: what came, and what is read from beliefs"
        " that saw the first images only. Value: the rewards expected later, read from beliefs that"
        " see every image, and from those that saw the first images only.",
    )


def show_alternatives(folder: Folder, alternatives: Alternatives, episode: int) -> Section:
    film = folder.video(
        "alternatives", draw_alternatives(alternatives, DARK), "imagined futures of other actions"
    )
    return Section(
        "The same belief, other actions",
        f"From one belief (episode {episode}, row {alternatives.row}) the model imagines what other"
        " actions would bring.",
        "The futures should differ as the actions do: a model whose futures look alike ignores its"
        " actions, and cannot plan.",
        [film, folder.strip("alternatives.png", strip_alternatives(alternatives))],
        "Each row holds one action for the whole time. The constant actions shown are those that"
        " change the imagined image most. The row of the planner is made of plans: one at every"
        " imagined row. None of these futures happened, so nothing here can be compared with a true"
        " image.",
    )


def show_futures(folder: Folder, futures: Futures, episode: int) -> Section:
    apart = futures.spread.mean((1, 2, 3))
    seen = (
        "All of them look the same."
        if apart.max() < SAME
        else f"After {len(apart)} rows their pixels differ by {apart[-1]:.3f} on average (standard"
        " deviation, pixels in [0, 1])."
    )
    return Section(
        "Several futures from one belief",
        f"Futures drawn at random from one belief (episode {episode}, row {futures.row}), all with"
        f" the actions that were done. {seen}",
        "Bright places in the last row are those of which the model is not sure; the truth should"
        " look like one of the futures.",
        [folder.strip("futures.png", strip_futures(futures))],
        f"The spread is the standard deviation over {len(futures.images)} futures. Every future has"
        " its own random numbers for the random part of the latent state. The film above follows"
        " the mean instead, which is one future without chance.",
    )


def show_vectors(folder: Folder, prediction: Prediction, task: str) -> list[Section]:
    """A section on predicted vectors; none if the model learned from images alone."""
    if not prediction.vectors:
        return []
    vectors = {
        name: (truth[..., part], model[..., part])
        for key, (truth, model) in prediction.vectors.items()
        for part, name in enumerate(name_parts(task, key, truth.shape[-1]))
    }
    valid = prediction.valid[:, prediction.context :]
    rows = []
    for name, (truth, model) in vectors.items():
        came = truth[:, prediction.context :]
        held = truth[:, [prediction.context - 1]]
        errors = (model[:, prediction.context :] - came, held - came)
        rows.append((name, *(f"{np.sqrt((e[valid] ** 2).mean()):.3g}" for e in errors)))
    return [
        Section(
            "What it predicts of the vectors",
            "The numbers that come with each image: seen in the grey part, imagined after it.",
            "The dashed line should stay near the truth.",
            [
                *folder.figure("vectors.png", lambda: plot_vectors(prediction, vectors)),
                Table(["number", "model", "hold-last"], rows),
            ],
            "The charts show episode 0. The table holds the root mean square error over all"
            " imagined rows of all episodes shown; hold-last repeats the last number seen.",
        )
    ]


def show_reconstruction(folder: Folder, agent: Agent, episode: Episode, beliefs: Latent) -> Section:
    moments = np.linspace(0, len(episode) - 1, STRIP_MOMENTS).round().astype(int).tolist()
    moments = sorted(set(moments))
    spec = agent.model.spec
    truth = spec.shown(episode.image[moments])
    model = spec.shown(decode(agent, at(beliefs, (0, moments))))
    strip = strip_reconstructions(truth, model, moments)
    return Section(
        "What it sees",
        "The model sees each image and draws it again from its belief.",
        "What is missing here is not in the belief, so no plan can take it into account.",
        [folder.strip("reconstruction.png", strip)],
    )


def show_horizon(folder: Folder, errors: HorizonErrors) -> Section:
    """Errors by distance, as a picture and as errors.csv."""
    columns: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        f.name: getattr(errors, f.name)
        for f in fields(errors)
        if not f.name.endswith("_by_episode")
    }
    for name in ("model", "hold_last", "mean_image"):
        columns[f"psnr_{name}"] = psnr(getattr(errors, name))
    for number, curve in enumerate(errors.model_by_episode):
        columns[f"model_episode_{number}"] = curve
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    folder.table("errors.csv", ERRORS_HEADER, list(columns), rows)
    end = int(errors.ahead[-1])
    ahead = errors.model < np.minimum(errors.hold_last, errors.mean_image)
    lead = int(ahead.argmin()) if not ahead.all() else len(ahead)
    seen = (
        f"The model's image error is smaller than that of both guesses for all {end} rows."
        if lead == end
        else f"The model's image error is smaller than that of both guesses for the first {lead} of"
        f" {end} rows."
    )
    return Section(
        "How far it can be trusted",
        seen,
        "Lower is better: the model's line should stay below the two dashed ones, which need no"
        " model.",
        [*folder.figure("errors.png", lambda: plot_errors(errors)), *_by_episode(errors)],
        "Hold-last repeats the last image or reward seen. The others are the mean of all images,"
        " and the mean reward. The band lies between the best and the worst episode. Half of the"
        " windows are spread evenly over each episode, and half begin shortly before its largest"
        " changes of the image. The model's guess is the mean of 32 futures.",
    )


def _by_episode(errors: HorizonErrors) -> list[Table]:
    at = errors.at(SUMMARY_AHEAD)
    if len(at.model_by_episode) < 2:
        return []
    rows = []
    numbers = np.concatenate(
        [at.model_by_episode, at.hold_last_by_episode, at.mean_image_by_episode], 1
    )
    for episode, (model, held, mean) in enumerate(numbers.tolist()):
        if not np.isnan(model):
            verdict = judge(model, {"hold-last": held, "the mean image": mean})
            shown = (f"{number:.2g}" for number in (model, held, mean))
            rows.append((f"episode {episode}", *shown, f"{verdict.sign} {verdict.words}"))
    columns = [f"image error, {at.ahead[0]} rows ahead", "model", "hold-last", "mean image", ""]
    return [Table(columns, rows)]


def show_reward(folder: Folder, reward: RewardFit) -> Section:
    score = reward.r_squared
    fit = f"R² = {score:.3f}" if np.isfinite(score) else "all true rewards are the same"
    return Section(
        "The reward model",
        f"The reward that the model reads from its belief, over the reward that came ({fit}).",
        "Points above the dashed line promise the planner too much, points below it too little.",
        folder.figure("reward.png", lambda: plot_reward(reward)),
    )


def show_learning(folder: Folder, source: Source, task: str) -> list[Section]:
    """A section on the run's curves; none if they have one point, which is no curve."""
    evaluations, metrics = source.evaluations(), source.metrics()
    if max(len(evaluations), len(metrics)) < 2:
        return []
    others = published(task)
    comparison = (
        " Diamonds are published scores from images for this task, at the steps below them. Their"
        " seeds and often their action repeat differ, and some are training returns."
        if others
        else ""
    )
    return [
        Section(
            "How it learned",
            _trend(evaluations),
            "The score should rise, and the losses fall while the data stay the same; new data can"
            " raise a loss.",
            folder.figure("curves.png", lambda: plot_curves(evaluations, metrics, others)),
            f"Steps are simulator steps, action repeat included.{comparison}",
        )
    ]


def _trend(evaluations: Sequence[Evaluation]) -> str:
    if len(evaluations) < 2:
        return "The run was evaluated fewer than two times, so only its losses have a curve."
    first, last = evaluations[0], evaluations[-1]
    return (
        f"The score went from {np.mean(first.returns):.0f} after {first.env_steps:,} steps to"
        f" {np.mean(last.returns):.0f} after {last.env_steps:,}."
    )
