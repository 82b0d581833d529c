"""The figures of an opened run, by name: the report's own drawings, as matplotlib figures."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from worldmodel.analysis import (
    AHEAD,
    CONTEXT,
    NoTruthError,
    compare_returns,
    decode,
    fit_reward,
    follow,
    sample_futures,
    try_alternatives,
)
from worldmodel.checks import ConfigError, require
from worldmodel.opened_run.measurements import Measurements
from worldmodel.published import published
from worldmodel.report.figures import (
    plot_course,
    plot_curves,
    plot_decision,
    plot_errors,
    plot_map,
    plot_probes,
    plot_returns,
    plot_reward,
)
from worldmodel.report.latent_sections import map_colours
from worldmodel.report.plan_sections import can_plan
from worldmodel.report.strips import (
    STRIP_MOMENTS,
    Strip,
    draw_strip,
    strip_alternatives,
    strip_futures,
    strip_open_loop,
    strip_plans,
    strip_reconstructions,
)
from worldmodel.structs import at

if TYPE_CHECKING:  # a robot may not have matplotlib
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100


def draw(measured: Measurements, name: str, episode: int, row: int) -> Figure:
    """The figure with this name. A notebook shows it without a call of pyplot."""
    require(name in FIGURES, f"figure: no figure {name!r}; there are {', '.join(sorted(FIGURES))}")
    try:
        figure = FIGURES[name](measured, episode, row)
    except ImportError as error:
        raise ConfigError(
            f"figure: it draws with matplotlib and pillow: pip install matplotlib pillow ({error})"
        ) from error
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _framed(strip: Strip) -> Figure:
    """The strip in a figure of the same size in pixels."""
    from matplotlib.figure import Figure

    image = draw_strip(strip)
    height, width = image.shape[:2]
    size = (width / DOTS_PER_INCH, height / DOTS_PER_INCH)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image)
    axes.set_axis_off()
    return figure


def _scores(measured: Measurements, episode: int, row: int) -> Figure:
    source = measured.curves
    others = published(measured.config.task)
    return plot_curves(source.evaluations(), source.metrics(), others)


def _open_loop(measured: Measurements, episode: int, row: int) -> Figure:
    window = measured.window(episode, 0, CONTEXT, AHEAD)
    prediction = measured.predicted(window, CONTEXT)
    return _framed(strip_open_loop(prediction, first=measured.number(episode)))


def _reconstruction(measured: Measurements, episode: int, row: int) -> Figure:
    rows = measured.episode(episode)
    moments = np.linspace(0, len(rows) - 1, min(STRIP_MOMENTS, len(rows))).round().astype(int)
    shown, beliefs = measured.spec.shown, at(measured.beliefs_of(episode), moments.tolist())
    truth, model = shown(rows.image[moments]), shown(decode(measured.agent, beliefs))
    return _framed(strip_reconstructions(truth, model, moments.tolist()))


def _course(measured: Measurements, episode: int, row: int) -> Figure:
    window = measured.window(episode, 0, CONTEXT, AHEAD)
    beliefs = measured.beliefs_of(episode)
    return plot_course(follow(measured.agent, window, beliefs, CONTEXT, len(window)))


def _futures(measured: Measurements, episode: int, row: int) -> Figure:
    measured.window(episode, row, 1, AHEAD)  # refuses a row that no other follows
    agent, rows = measured.agent, measured.episode(episode)
    futures = sample_futures(agent, rows, measured.beliefs_of(episode), row, AHEAD)
    return _framed(strip_futures(futures))


def _alternatives(measured: Measurements, episode: int, row: int) -> Figure:
    measured.window(episode, row, 1, AHEAD)
    agent, rows = measured.agent, measured.episode(episode)
    beliefs = measured.beliefs_of(episode)
    tried = try_alternatives(agent, rows, beliefs, row, with_plan=can_plan(agent))
    return _framed(strip_alternatives(tried))


def _errors(measured: Measurements, episode: int, row: int) -> Figure:
    return plot_errors(measured.errors)


def _reward(measured: Measurements, episode: int, row: int) -> Figure:
    return plot_reward(fit_reward(measured.agent, measured.whole, measured.beliefs))


def _plans(measured: Measurements, episode: int, row: int) -> Figure:
    return _framed(strip_plans(measured.moment(episode, row)))


def _search(measured: Measurements, episode: int, row: int) -> Figure:
    return plot_decision(measured.moment(episode, row))


def _returns(measured: Measurements, episode: int, row: int) -> Figure:
    measured.moment(episode, 0)  # refuses an episode without a whole plan
    episodes = list(measured.episodes.values())
    seeds = measured.source.seeds() or [0] * len(episodes)
    return plot_returns(compare_returns(measured.agent, episodes, seeds, measured.beliefs))


def _latents(measured: Measurements, episode: int, row: int) -> Figure:
    try:
        states = measured.states
    except NoTruthError:
        states = []  # the map is then coloured by time and reward alone
    colours = map_colours(measured.map, list(measured.episodes.values()), states)
    return plot_map(measured.map, colours)


def _probe(measured: Measurements, episode: int, row: int) -> Figure:
    return plot_probes(measured.probes)


FIGURES: dict[str, Callable[[Measurements, int, int], Figure]] = {
    "alternatives": _alternatives,
    "course": _course,
    "errors": _errors,
    "futures": _futures,
    "latents": _latents,
    "open_loop": _open_loop,
    "plans": _plans,
    "probe": _probe,
    "reconstruction": _reconstruction,
    "returns": _returns,
    "reward": _reward,
    "scores": _scores,
    "search": _search,
}
