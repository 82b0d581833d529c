"""What is drawn of a model, and the words on how to read it: a section of the report each."""

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
    newest,
    predict,
    probe,
    psnr,
    true_states,
)
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
    plot_sensors,
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

TOLD_AHEAD = 10  # the distance of the one line
DECISIONS = (0.1, 0.4, 0.7)  # where in the episode the planner's candidates are drawn
COLOURS = 4  # of the map

ERRORS_HEADER = """\
# mean squared errors of predictions without images, by rows ahead of the last image seen
# model, hold_last, mean_image: of images, pixels in [0, 1]; psnr in decibels; reward_*: of rewards
# windows: how many each number is a mean over, the same ones for every column
"""
RETURNS_HEADER = """\
# returns over the next {horizon} rows and the value after them, by row of a held-out episode
# promised: by the plan; imagined: by the model, for the actions that were then done;
# obtained: the rewards that came, discounted, and the value of the belief that they led to
# apart: how far the plan's first action is from the one that was done, in [-1, 1]; of choices, 1
#   where it is another
"""
PROBES_HEADER = """\
# a linear probe from the belief to each true quantity, over {episodes} held-out episodes
# r_squared: over all rows, each read by a probe that never saw its episode
# lowest, highest: of the single episodes
"""


def foresee(agent: Agent, long: Sequence[Episode]) -> Prediction:
    """From the first rows of the first episodes."""
    begins = [(number, 0) for number in range(min(EPISODES_SHOWN, len(long)))]
    rows = min(CONTEXT + AHEAD, max(len(long[number]) for number, _ in begins))
    return predict(agent, cut(long, begins, rows))


def show_open_loop(folder: Folder, prediction: Prediction) -> Section:
    strip = folder.picture("open_loop.png", lambda palette: draw_open_loop(prediction, palette))
    film = folder.video("open_loop", draw_video(prediction, DARK))
    return Section(
        "What it foresees",
        f"The model sees {CONTEXT} images of an episode that it never trained on, then none: from"
        " there it imagines, told only the actions. Above the truth, below it the model and the"
        " error. Where the two part, the model has lost the thread, and so has any plan that looks"
        " as far.",
        [film, strip],
    )


def show_sensors(folder: Folder, prediction: Prediction, task: str) -> list[Section]:
    """Nothing where the model learned from images alone."""
    if not prediction.felt:
        return []
    sensors = {
        name: (truth[..., part], model[..., part])
        for key, (truth, model) in prediction.felt.items()
        for part, name in enumerate(name_parts(task, key, truth.shape[-1]))
    }
    valid = prediction.valid[:, prediction.context :]
    rows = []
    for name, (truth, model) in sensors.items():
        came = truth[:, prediction.context :]
        held = truth[:, [prediction.context - 1]]
        errors = (model[:, prediction.context :] - came, held - came)
        rows.append((name, *(f"{np.sqrt((e[valid] ** 2).mean()):.3g}" for e in errors)))
    return [
        Section(
            "What it foresees of its sensors",
            "The numbers that it feels beside the image, in the same episodes: told for as long as"
            " images were seen (grey), then imagined. Drawn is the first episode; the table holds"
            " the root mean square error over all that was imagined, beside that of the last"
            " number felt.",
            [
                *folder.figure("sensors.png", lambda: plot_sensors(prediction, sensors)),
                Table(["sensor", "model", "hold-last"], rows),
            ],
        )
    ]


def show_reconstruction(folder: Folder, agent: Agent, episode: Episode, beliefs: Latent) -> Section:
    moments = np.linspace(0, len(episode) - 1, STRIP_MOMENTS).round().astype(int).tolist()
    moments = sorted(set(moments))
    frames = agent.config.env.frames
    truth = newest(episode.image[moments], frames)
    model = newest(decode(agent, at(beliefs, (0, moments))), frames)
    strip = folder.picture(
        "reconstruction.png", lambda palette: draw_reconstructions(truth, model, moments, palette)
    )
    return Section(
        "What it sees",
        "The model draws each image again from its belief, having seen it. What is missing here"
        " never reached the belief, and no plan can take it into account.",
        [strip],
    )


def show_horizon(folder: Folder, errors: HorizonErrors) -> Section:
    """Error over distance, as numbers too."""
    columns: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        f.name: getattr(errors, f.name) for f in fields(errors)
    }
    for name in ("model", "hold_last", "mean_image"):
        columns[f"psnr_{name}"] = psnr(getattr(errors, name))
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    folder.table("errors.csv", ERRORS_HEADER, list(columns), rows)
    at, end = errors.at(TOLD_AHEAD), errors.at(int(errors.ahead[-1]))
    best = min(("hold-last", at.hold_last[0]), ("mean image", at.mean_image[0]), key=lambda b: b[1])
    ahead = errors.model < np.minimum(errors.hold_last, errors.mean_image)
    lead = int(ahead.argmin()) if not ahead.all() else len(ahead)
    name, least = best
    share = f"{at.model[0] / least:.2f} times that of" if least > 0 else "not to be measured by"
    return Section(
        "How far it can be trusted",
        "Error by distance, beside two guesses that need no model: the last image seen, and the"
        f" mean of all images. {at.ahead[0]} rows ahead the model's squared error is"
        f" {share} the better of the two ({name}); it leads both for the first {lead} of"
        f" {end.ahead[0]} rows. For rewards the guesses are the last reward and the mean one.",
        folder.figure("errors.png", lambda: plot_errors(errors)),
    )


def show_reward(folder: Folder, reward: RewardFit) -> Section:
    score = reward.r_squared
    told = f"R² = {score:.3f}" if np.isfinite(score) else "all that came are alike"
    return Section(
        "What it takes for good",
        "The reward that the model reads from its belief, against the one that came. On the dashed"
        f" line it is exactly right ({told}). Points above it tempt the planner, points below it"
        " hide what is good.",
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
    returns = compare_returns(agent, episodes, seeds or [0] * len(episodes), beliefs)
    names = ["row", "promised", "imagined", "obtained", "apart"]
    columns = zip(*(getattr(returns, name).tolist() for name in names), strict=True)
    folder.table("plans.csv", RETURNS_HEADER.format(horizon=ahead), names, columns)
    compared = Section(
        "Is it the planner or the model?",
        f"At {len(returns.row)} decisions, returns over the next {ahead} rows and the value after"
        " them. Left: the same actions, imagined and done; any distance from the dashed line is the"
        f" model's own error (here {returns.model_error:.3g} root mean square,"
        f" {returns.model_bias:+.3g} on average). Middle: what the plan promised, on average"
        f" {returns.hope:+.3g} beyond what the model says of the actions that were then done, for"
        " the planner thinks again at every row. A model at fault scatters on the left; a search"
        " that is fooled stands too high in the middle alone. The value is the model's own guess,"
        " on both sides." + _said_of_weights(returns, agent.model.spec.has_choices),
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
        "What it weighs up",
        "Three decisions of one episode. Each line of images is a future that the model draws for"
        " one candidate: some as they were before the search, and the best after it. Above them"
        " what really came, though with later plans. Below: every candidate's imagined return as"
        " the search goes on, and how far the elites' actions still lie apart. A search that has"
        " found something ends high and narrow; one whose elites stay wide sees no difference.",
        [*strips, *folder.figure("search.png", lambda: plot_search(moments))],
    )
    return returns, [compared, imagined]


def _said_of_weights(returns: PlanReturns, has_choices: bool) -> str:
    apart = float(returns.apart.mean())
    if apart < 1e-3:
        return " The weights are those that played: the same plans came out again."
    change = (
        f"another choice comes first at {apart:.0%} of the decisions"
        if has_choices
        else f"the first action is {apart:.2g} from the one done on average (actions span 2)"
    )
    return f" Planned again today, {change}: the weights, or the noise, are not those that played."


def show_latents(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    seeds: Sequence[int] | None,
    *,
    trust: bool,
) -> tuple[list[Probe], list[Section]]:
    lengths = [len(episode) for episode in episodes]
    every = beliefs.features.double().cpu().numpy()
    features = [every[number, :length] for number, length in enumerate(lengths)]
    states: list[States] = []
    try:
        if seeds is None:
            raise NoTruthError("the run does not say from which seeds its episodes started")
        states = true_states(agent.config, episodes, seeds, trust=trust)
    except NoTruthError as error:
        folder.notes.append(f"no true states beside the latent ones: {error}")
    found = map_latents(features)
    colours: dict[str, NDArray[np.float64]] = {
        **(_true_colours(states) if states else {}),
        "time (row of the episode)": found.row.astype(np.float64),
        "reward": np.concatenate([e.reward for e in episodes]).astype(np.float64),
    }
    flat = folder.figure("map_2d.png", lambda: plot_map(found, colours, solid=False))
    solid = folder.figure("map_3d.png", lambda: plot_map(found, colours, solid=True))
    sections = [
        Section(
            "How its world is laid out",
            f"Each point is the belief at one row of {len(episodes)} held-out episodes, laid down"
            " by its principal components (the eye sees"
            f" {found.shares[:2].sum():.0%} of the variance in two dimensions,"
            f" {found.shares.sum():.0%} in three). Colours that change smoothly along the shape are"
            " things that the latent state is organised by; an angle should close into a ring.",
            [*flat, *solid],
        )
    ]
    probes: list[Probe] = []
    if states and len(episodes) >= FEWEST_EPISODES:
        probes = probe(features, states)
        folder.table(
            "probe.csv",
            PROBES_HEADER.format(episodes=len(episodes)),
            ["quantity", "r_squared", "lowest", "highest"],
            [(one.name, one.r_squared, *one.spread) for one in probes],
        )
    elif states:
        folder.notes.append(
            f"no probe: it takes {FEWEST_EPISODES} held-out episodes to judge one fairly, got"
            f" {len(episodes)}; evaluate more (loop.evaluate_episodes)"
        )
    if probes:
        rows = [
            (one.name, *("-" if np.isnan(r) else f"{r:.3f}" for r in (one.r_squared, *one.spread)))
            for one in probes
        ]
        sections.append(
            Section(
                "What it knows of the true state",
                "The simulator's own numbers, which no image spells out, read from the belief by a"
                " linear probe. R² is 1 where it reads every row right, 0 where it does no better"
                " than the mean; each episode is judged by a probe that never saw it. Velocities"
                " are in no single image: reading them takes memory.",
                [
                    *folder.figure("probe.png", lambda: plot_probes(probes)),
                    Table(["true quantity", "R²", "lowest episode", "highest"], rows),
                ],
            )
        )
    return probes, sections


def _true_colours(states: Sequence[States]) -> dict[str, NDArray[np.float64]]:
    """Angles first, then velocities, then what there is; as many as there is room for."""
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
    beside = (
        " Diamonds: what others published for this task from images, at the steps written below"
        " them; their machines, their seeds and often their action repeat differ, and some report"
        " training returns."
        if others
        else ""
    )
    return [
        Section(
            "How it learned",
            "The score of each evaluation, its single episodes, and every loss. Steps are simulator"
            f" steps, action repeat included.{beside}",
            folder.figure("curves.png", lambda: plot_curves(evaluations, metrics, others)),
        )
    ]
