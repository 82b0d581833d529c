"""Sections of the report: each draws its pictures and explains how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import (
    AHEAD,
    CONTEXT,
    FEWEST_EPISODES,
    HorizonErrors,
    NoTruthError,
    PlanReturns,
    Prediction,
    Probe,
    RewardFit,
    Source,
    States,
    angles,
    compare_returns,
    decode,
    look_into,
    map_latents,
    name_parts,
    predict,
    probe,
    psnr,
    true_states,
)
from worldmodel.config import Config
from worldmodel.planners import ILQR
from worldmodel.published import published
from worldmodel.replay import cut
from worldmodel.report.figures import (
    plot_curves,
    plot_errors,
    plot_map,
    plot_probes,
    plot_returns,
    plot_reward,
    plot_search,
    plot_vectors,
)
from worldmodel.report.folder import Folder
from worldmodel.report.page import Section, Table
from worldmodel.report.palette import DARK
from worldmodel.report.strips import (
    EPISODES_SHOWN,
    STRIP_MOMENTS,
    draw_open_loop,
    draw_plans,
    draw_reconstructions,
    draw_video,
)
from worldmodel.structs import Episode, Latent, at

SUMMARY_AHEAD = 10  # rows ahead, of the errors in the summary
DECISIONS = (0.1, 0.4, 0.7)  # shares of the episode at which the planner's candidates are drawn
COLOURS = 4  # how many quantities colour the map

ERRORS_HEADER = """\
# mean squared errors of predictions without images, by rows ahead of the last image seen
# model, hold_last, mean_image: of images, pixels in [0, 1]; psnr in decibels; reward_*: of rewards
# windows: how many windows each mean is over; all columns use the same windows
"""
RETURNS_HEADER = """\
# returns over the next {horizon} rows and the value after them, by row of a held-out episode
# promised: by the plan; imagined: by the model, for the actions that were then done;
# obtained: the discounted rewards that came, plus the value of the belief after them
# apart: distance of the plan's first action, in [-1, 1], from the action that was done; with
#   choices it is 1 where the plan chose another
"""
PROBES_HEADER = """\
# a linear probe from the belief to each true quantity, over {episodes} held-out episodes
# r_squared: over all rows, each read by a probe that was not fitted on its episode
# lowest, highest: r_squared of single episodes
"""


def foresee(agent: Agent, long: Sequence[Episode]) -> Prediction:
    """Predict the first episodes from their first rows."""
    begins = [(number, 0) for number in range(min(EPISODES_SHOWN, len(long)))]
    rows = min(CONTEXT + AHEAD, max(len(long[number]) for number, _ in begins))
    return predict(agent, cut(long, begins, rows))


def show_open_loop(folder: Folder, prediction: Prediction) -> Section:
    strip = folder.picture("open_loop.png", lambda palette: draw_open_loop(prediction, palette))
    video = folder.video("open_loop", draw_video(prediction, DARK))
    return Section(
        "What it predicts",
        f"The model sees {CONTEXT} images of an episode that it was not trained on. From there it"
        " imagines, and is given only the actions. Above is the truth, below it the model's"
        " prediction and the error. Where prediction and truth differ, a plan that looks as far"
        " ahead cannot be trusted.",
        [video, strip],
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
            "The numbers that come with each image, in the same episodes: given as long as images"
            " are (grey), then imagined. The picture shows the first episode. The table holds the"
            " root mean square error over all imagined rows; hold-last repeats the last number"
            " that was given.",
            [
                *folder.figure("vectors.png", lambda: plot_vectors(prediction, vectors)),
                Table(["number", "model", "hold-last"], rows),
            ],
        )
    ]


def show_reconstruction(folder: Folder, agent: Agent, episode: Episode, beliefs: Latent) -> Section:
    moments = np.linspace(0, len(episode) - 1, STRIP_MOMENTS).round().astype(int).tolist()
    moments = sorted(set(moments))
    spec = agent.model.spec
    truth = spec.shown(episode.image[moments])
    model = spec.shown(decode(agent, at(beliefs, (0, moments))))
    strip = folder.picture(
        "reconstruction.png", lambda palette: draw_reconstructions(truth, model, moments, palette)
    )
    return Section(
        "What it sees",
        "The model sees each image and draws it again from its belief. What is missing here is"
        " not in the belief, so no plan can take it into account.",
        [strip],
    )


def show_horizon(folder: Folder, errors: HorizonErrors) -> Section:
    """Errors by distance, as a picture and as errors.csv."""
    columns: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        f.name: getattr(errors, f.name) for f in fields(errors)
    }
    for name in ("model", "hold_last", "mean_image"):
        columns[f"psnr_{name}"] = psnr(getattr(errors, name))
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    folder.table("errors.csv", ERRORS_HEADER, list(columns), rows)
    at, end = errors.at(SUMMARY_AHEAD), errors.at(int(errors.ahead[-1]))
    best = min(("hold-last", at.hold_last[0]), ("mean image", at.mean_image[0]), key=lambda b: b[1])
    ahead = errors.model < np.minimum(errors.hold_last, errors.mean_image)
    lead = int(ahead.argmin()) if not ahead.all() else len(ahead)
    name, least = best
    share = f"{at.model[0] / least:.2f} times that of" if least > 0 else "not comparable with"
    return Section(
        "How far it can be trusted",
        "The error by rows ahead, compared with two guesses that need no model: the last image"
        f" seen, and the mean of all images. {at.ahead[0]} rows ahead the model's squared error is"
        f" {share} the better guess ({name}). The model is better than both for the first {lead} of"
        f" {end.ahead[0]} rows. For rewards the guesses are the last reward and the mean reward.",
        folder.figure("errors.png", lambda: plot_errors(errors)),
    )


def show_reward(folder: Folder, reward: RewardFit) -> Section:
    score = reward.r_squared
    fit = f"R² = {score:.3f}" if np.isfinite(score) else "all true rewards are the same"
    return Section(
        "Which rewards it predicts",
        "The reward that the model reads from its belief, over the reward that came. On the dashed"
        f" line it is exactly right ({fit}). Where points lie above the line, the model promises"
        " the planner too much; where they lie below, too little.",
        folder.figure("reward.png", lambda: plot_reward(reward), is_wide=False),
    )


def show_plans(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    seeds: Sequence[int] | None,
) -> tuple[PlanReturns | None, list[Section]]:
    ahead = agent.planner.horizon
    if max(map(len, episodes)) <= ahead:
        folder.notes.append(
            f"no plan was compared with what came: no episode is longer than the look-ahead of"
            f" {ahead} rows; give longer episodes, or a smaller planner.horizon"
        )
        return None, []
    if isinstance(agent.planner, ILQR):
        folder.notes.append(
            "no plan was compared with what came: ilqr plans for a score with a cost, and the"
            " learned reward has none; give the report an agent with another planner"
        )
        return None, []
    returns = compare_returns(agent, episodes, seeds or [0] * len(episodes), beliefs)
    names = ["row", "promised", "imagined", "obtained", "apart"]
    columns = zip(*(getattr(returns, name).tolist() for name in names), strict=True)
    folder.table("plans.csv", RETURNS_HEADER.format(horizon=ahead), names, columns)
    compared = Section(
        "Is it the planner or the model?",
        f"Returns at {len(returns.row)} decisions: the next {ahead} rewards, plus the value after"
        " them, which is the model's own estimate on both axes. Left: the return that the model"
        " imagines for the actions that were then done. Points far from the dashed line are the"
        f" model's error (root mean square {returns.model_error:.3g}, mean"
        f" {returns.model_bias:+.3g}). Middle: the return that the plan promised, on average"
        f" {returns.hope:+.3g} more than the model imagines for the actions that were done; these"
        " differ because the planner plans again at every row. If only the middle points lie above"
        " the line, the search is at fault and not the model."
        + _compare_weights(returns, agent.model.spec.has_choices),
        folder.figure("returns.png", lambda: plot_returns(returns)),
    )
    number = int(np.argmax([len(episode) for episode in episodes]))
    last = len(episodes[number]) - 1 - ahead
    belief = at(beliefs, number)
    rows = sorted({round(share * last) for share in DECISIONS})
    moments = [look_into(agent, episodes[number], belief, row) for row in rows]
    strips = [
        folder.picture(f"plans_{place}.png", partial(draw_plans, moment))
        for place, moment in enumerate(moments)
    ]
    imagined = Section(
        "What the planner compares",
        "Three decisions of one episode. At the top of each picture is what really came, with"
        " later plans. Each line of images below it is a future that the model imagines for one"
        " candidate: the best after the search, and some from before it. The charts show every"
        " candidate's imagined return by iteration, and how much the elites' actions differ. A"
        " search that found a better plan ends with high returns and a small spread. A spread that"
        " stays wide means that the candidates make no difference.",
        [*strips, *folder.figure("search.png", lambda: plot_search(moments))],
    )
    return returns, [compared, imagined]


def _compare_weights(returns: PlanReturns, has_choices: bool) -> str:
    apart = float(returns.apart.mean())
    if apart < 1e-3:
        return " The weights are those that played: planning again gave the same actions."
    change = (
        f"the plan begins with another choice at {apart:.0%} of the decisions"
        if has_choices
        else f"the plan's first action differs by {apart:.2g} on average (actions span 2)"
    )
    return f" When planned again, {change}: these weights, or this noise, did not play."


def show_latents(
    folder: Folder,
    agent: Agent,
    config: Config | None,
    episodes: Sequence[Episode],
    beliefs: Latent,
    seeds: Sequence[int] | None,
    *,
    trust: bool,
) -> tuple[list[Probe], list[Section]]:
    every = beliefs.features.double().cpu().numpy()
    features = [every[number, : len(episode)] for number, episode in enumerate(episodes)]
    states: list[States] = []
    try:
        if seeds is None:
            raise NoTruthError("the run does not say from which seeds its episodes started")
        if config is None:
            raise NoTruthError("nothing says which task they are of")
        states = true_states(config, episodes, seeds, trust=trust)
    except NoTruthError as error:
        folder.notes.append(f"no true states to compare the latent states with: {error}")
    mapped = _show_map(folder, features, episodes, states)
    if states and len(episodes) < FEWEST_EPISODES:
        folder.notes.append(
            f"no probe: it takes {FEWEST_EPISODES} held-out episodes to judge one fairly, got"
            f" {len(episodes)}; evaluate more (loop.evaluate_episodes)"
        )
        return [], [mapped]
    probes = probe(features, states) if states else []
    return probes, [mapped, *_show_probes(folder, probes, len(episodes))]


def _show_map(
    folder: Folder,
    features: Sequence[NDArray[np.float64]],
    episodes: Sequence[Episode],
    states: Sequence[States],
) -> Section:
    latents = map_latents(features)
    colours: dict[str, NDArray[np.float64]] = {
        **(_true_colours(states) if states else {}),
        "time (row of the episode)": latents.row.astype(np.float64),
        "reward": np.concatenate([e.reward for e in episodes]).astype(np.float64),
    }
    flat = folder.figure("map_2d.png", lambda: plot_map(latents, colours, solid=False))
    solid = folder.figure("map_3d.png", lambda: plot_map(latents, colours, solid=True))
    return Section(
        "How its latent states are arranged",
        f"Each point is the belief at one row of {len(episodes)} held-out episodes, placed by"
        f" its principal components ({latents.shares[:2].sum():.0%} of the variance in two"
        f" dimensions, {latents.shares.sum():.0%} in three). A quantity whose colour changes"
        " smoothly along the shape is encoded in the latent state; an angle should form a"
        " ring.",
        [*flat, *solid],
    )


def _show_probes(folder: Folder, probes: Sequence[Probe], episodes: int) -> list[Section]:
    """A section on the probes; none if no true quantity varies or is known."""
    if not probes:
        return []
    scores = [(each.name, each.r_squared, *each.spread) for each in probes]
    header = PROBES_HEADER.format(episodes=episodes)
    folder.table("probe.csv", header, ["quantity", "r_squared", "lowest", "highest"], scores)
    rows = [
        (name, *("-" if np.isnan(number) else f"{number:.3f}" for number in numbers))
        for name, *numbers in scores
    ]
    return [
        Section(
            "What it knows of the true state",
            "The simulator's own numbers, read from the belief by a linear probe. R² is 1 if"
            " every row is right, and 0 if the probe is no better than the mean. Each episode"
            " is judged by a probe that was fitted on the others. A single image does not show"
            " a velocity: only a belief that remembers can hold it.",
            [
                *folder.figure("probe.png", lambda: plot_probes(probes)),
                Table(["true quantity", "R²", "lowest episode", "highest"], rows),
            ],
        )
    ]


def _true_colours(states: Sequence[States]) -> dict[str, NDArray[np.float64]]:
    """The quantities that colour the map: angles first, then velocities, then any other."""
    every = {name: np.concatenate([s[name] for s in states]) for name in states[0]}
    circles = angles(every)
    order = [*circles, *(n for n in every if "velocity" in n and "angular" in n)]
    order += [name for name in every if "velocity" in name] + list(every)
    chosen = list(dict.fromkeys(order))[: COLOURS - 2]
    return {name: circles[name] if name in circles else every[name] for name in chosen}


def show_learning(folder: Folder, source: Source, task: str) -> list[Section]:
    evaluations, metrics = source.evaluations(), source.metrics()
    if not evaluations and not metrics:
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
            "The score of each evaluation, its single episodes, and every loss. Steps are simulator"
            f" steps, action repeat included.{comparison}",
            folder.figure("curves.png", lambda: plot_curves(evaluations, metrics, others)),
        )
    ]
