"""Charts as matplotlib figures, made without pyplot: no window and no global state."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.analysis import (
    Course,
    HorizonErrors,
    Map,
    Moment,
    PlanReturns,
    Prediction,
    Probe,
    RewardFit,
    TruthAndModel,
)
from worldmodel.log import Evaluation
from worldmodel.published import Scores, shown
from worldmodel.report.palette import DARK, LIGHT, SERIES, in_the_dark

if TYPE_CHECKING:  # a robot may not have matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Charts are drawn in the light palette; ``darken`` changes the colours. Lines differ in style too.
STYLE: dict[Any, Any] = {
    "font.size": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT.line,
}
PROBES_SHOWN = 6
HEADROOM = 1.3
LEGEND_MOST = 6  # single episodes that a legend names
VECTORS_SHOWN = 6
CYCLE = "hsv"  # -π and π have the same colour, and no colour is as light or dark as a page
QUARTERS = ["-π", "-π/2", "0", "π/2", "π"]
SCALE = "viridis"
ACTIONS_SHOWN = 2  # of a plan: those in which the elites differ most


def plot_errors(errors: HorizonErrors) -> Figure:
    """Three panels over the rows ahead: image error, that of each episode, reward error."""
    figure, (image, single, reward) = panels([[0, 1, 2]], width=17, height=5)
    marker = "o" if len(errors.ahead) == 1 else None
    whole = ~np.isnan(errors.model_by_episode).all(0)  # rows that some episode reaches
    image.fill_between(
        errors.ahead[whole], np.nanmin(errors.model_by_episode[:, whole], 0),
        np.nanmax(errors.model_by_episode[:, whole], 0), color=LIGHT.model, alpha=0.18, lw=0,
        label="model, all episodes",
    )  # fmt: skip
    for label, of_image, of_reward, colour, style in (
        ("model", errors.model, errors.reward_model, LIGHT.model, "-"),
        ("hold-last", errors.hold_last, errors.reward_hold_last, LIGHT.hold_last, "--"),
        ("mean image", errors.mean_image, None, LIGHT.mean, "-."),
        ("mean reward", None, errors.reward_mean, LIGHT.mean, "-."),
    ):
        look: dict[str, Any] = {"label": label, "color": colour, "ls": style, "marker": marker}
        look["lw"] = 2.5
        if of_image is not None:
            image.plot(errors.ahead, of_image, **look)
        if of_reward is not None:
            reward.plot(errors.ahead, of_reward, **look)
    for number, curve in enumerate(errors.model_by_episode):
        dashes = ("-", "--", "-.", ":")[number // len(SERIES) % 4]
        named = len(errors.model_by_episode) <= LEGEND_MOST
        single.plot(
            errors.ahead, curve, color=SERIES[number % len(SERIES)], lw=2, ls=dashes,
            marker=marker, label=f"episode {number}" if named else None,
        )  # fmt: skip
    for axes, title, unit in (
        (image, "Image error", "mean squared error, pixels in [0, 1]"),
        (single, "The model's, by episode", "mean squared error"),
        (reward, "Reward error", "mean squared error"),
    ):
        name_axes(axes, title, "rows imagined ahead", unit)
        axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])  # the legend covers no line
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=12)
    return figure


def plot_course(course: Course) -> Figure:
    """Three panels along the film: surprise, reward and value."""
    kept = [not np.isnan(course.surprise).all(), True, True]
    count = sum(kept)
    figure, drawn = panels([list(range(count))], width=5.67 * count, height=4.4)
    rows = np.arange(len(course.reward))
    for axes in drawn:
        axes.axvspan(-0.5, course.context - 0.5, color=LIGHT.neutral, alpha=0.2, lw=0, label="seen")
    *surprise, reward, value = drawn
    for axes in surprise:
        axes.plot(rows, course.surprise, color=LIGHT.model, lw=2.2)
        name_axes(axes, "Surprise by each image", "row", "KL, nats")
        axes.set_ylim(bottom=0)
    for axes, title, label, came, imagined in (
        (reward, "Reward", "that came", course.reward, course.reward_imagined),
        (value, "Value", "with all images", course.value, course.value_imagined),
    ):
        axes.plot(rows, came, color=LIGHT.mean, lw=2.5, label=label)
        axes.plot(rows, imagined, color=LIGHT.model, lw=2.5, ls="--", label="imagined")
        name_axes(axes, title, "row", "")
        axes.legend(frameon=False, fontsize=12)
    return figure


def plot_vectors(prediction: Prediction, vectors: Mapping[str, TruthAndModel]) -> Figure:
    """The first window's vectors over time: the truth, and the model's prediction."""
    figure, drawn = _grid(min(VECTORS_SHOWN, len(vectors)), height=4.4)
    shown = prediction.valid[0]
    rows = np.flatnonzero(shown)
    for axes, (name, (truth, model)) in zip(drawn, vectors.items(), strict=False):
        axes.axvspan(
            -0.5, prediction.context - 0.5, color=LIGHT.neutral, alpha=0.2, lw=0, label="seen"
        )
        axes.plot(rows, truth[0, shown], color=LIGHT.mean, lw=2.5, label="truth")
        axes.plot(rows, model[0, shown], color=LIGHT.model, lw=2.5, ls="--", label="model")
        name_axes(axes, name, "row", "")
    drawn[0].legend(frameon=False, fontsize=13)
    return figure


def plot_reward(fit: RewardFit) -> Figure:
    """Rewards that the model reads from its beliefs, over the true rewards."""
    figure, (axes,) = panels([[0]], width=6.5, height=6)
    low = min(fit.true.min(initial=0.0), fit.model.min(initial=0.0))
    high = max(fit.true.max(initial=0.0), fit.model.max(initial=0.0))
    axes.plot([low, high], [low, high], color=LIGHT.neutral, lw=1.5, ls="--", label="exactly right")
    axes.scatter(fit.true, fit.model, s=18, color=LIGHT.model, alpha=0.3, lw=0, label="one row")
    score = fit.r_squared
    quality = "all alike" if math.isnan(score) else f"R² = {score:.3g}"
    name_axes(axes, f"Reward read from the belief: {quality}", "true reward", "the model's reward")
    axes.legend(frameon=False, fontsize=13)
    return figure


def plot_returns(returns: PlanReturns) -> Figure:
    """Returns that plans promised and that the model imagined, over those that were obtained."""
    figure, (model, plan, over_time) = panels([[0, 1, 2]], width=17, height=5.4)
    every = np.concatenate([returns.promised, returns.imagined, returns.obtained])
    ends = [every.min(), every.max()]
    for axes, title, guessed, label in (
        (model, "The model: the same actions", returns.imagined, "imagined return"),
        (plan, "The planner: what it hoped for", returns.promised, "promised return"),
    ):
        axes.plot(ends, ends, color=LIGHT.neutral, lw=1.5, ls="--", label="exactly right")
        look: dict[str, Any] = {"s": 18, "color": LIGHT.model, "alpha": 0.35, "lw": 0}
        axes.scatter(returns.obtained, guessed, label="one row", **look)
        name_axes(axes, title, "obtained return", label)
        axes.legend(frameon=False, fontsize=13)
    rows = np.unique(returns.row)
    for label, values, colour, style in (
        ("promised by the plan", returns.promised, LIGHT.hold_last, "--"),
        ("imagined, actions as done", returns.imagined, LIGHT.model, "-"),
        ("obtained", returns.obtained, LIGHT.mean, "-."),
    ):
        means = [values[returns.row == row].mean() for row in rows]
        over_time.plot(rows, means, color=colour, ls=style, lw=2.2, label=label)
    unit = f"return over {returns.horizon} rows and the value after them"
    name_axes(over_time, "Along the episode, mean of episodes", "row", unit)
    over_time.legend(frameon=False, fontsize=13)
    return figure


def plot_decision(moment: Moment) -> Figure:
    """The candidates' returns by iteration, and the plan's actions over the rows ahead."""
    actions = _actions_shown(moment)
    count = 1 + len(actions)
    figure, (returns, *drawn) = panels([list(range(count))], width=5.67 * count, height=5)
    for iteration, values in enumerate(moment.returns, start=1):
        apart = np.sort(values)[::-1] - moment.plan_return
        first = iteration == 1
        jitter = np.linspace(-0.16, 0.16, len(apart))
        returns.scatter(
            iteration + jitter, apart, s=14, color=LIGHT.neutral, alpha=0.5, lw=0,
            label="candidate" if first else None,
        )  # fmt: skip
        best = apart[: moment.elites]
        returns.scatter(
            np.full(len(best), iteration), best, s=22, color=LIGHT.model, alpha=0.6, lw=0,
            label="elite" if first else None,
        )  # fmt: skip
    returns.set_xticks(list(range(1, len(moment.returns) + 1)))
    name_axes(returns, "Returns, compared with the plan", "iteration", "imagined return")
    returns.axhline(0, color=LIGHT.hold_last, lw=1.5, label="the plan")
    returns.legend(frameon=False, fontsize=12)
    for axes, (name, elites, plan, done) in zip(drawn, actions, strict=True):
        ahead = np.arange(1, len(plan) + 1)
        if len(elites) > 1:
            axes.fill_between(
                ahead, elites.min(0), elites.max(0), color=LIGHT.model, alpha=0.2, lw=0,
                label="elites",
            )  # fmt: skip
        marker = "o" if len(ahead) == 1 else None
        axes.plot(ahead, plan, color=LIGHT.hold_last, lw=2.5, marker=marker, label="the plan")
        axes.plot(
            ahead, done, color=LIGHT.mean, lw=2, ls="--", marker=marker, label="done after it"
        )
        name_axes(axes, name, "rows ahead", "")
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, fontsize=12)
    return figure


ActionsShown = list[tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]


def _actions_shown(moment: Moment) -> ActionsShown:
    """Title, elites [K, L], plan [L], done [L] of each action that is shown."""
    elites, plan, done = moment.elite_actions, moment.plan_actions, moment.done
    if moment.has_choices:
        chosen = [part.argmax(-1).astype(np.float32) for part in (elites, plan, done)]
        return [("The choice", chosen[0][:1], chosen[1], chosen[2])]  # numbers without a middle
    count = plan.shape[-1]
    widest = np.argsort(-elites.std(0).mean(0), kind="stable")[:ACTIONS_SHOWN]
    return [
        (
            f"Action {number + 1} of {count}" if count > 1 else "The action",
            elites[..., number],
            plan[..., number],
            done[..., number],
        )
        for number in sorted(widest.tolist())
    ]


def plot_map(found: Map, colours: Mapping[str, NDArray[np.float64]]) -> Figure:
    """The map in two dimensions, once for each colouring [M].

    A quantity whose name begins with "angle" gets cyclic colours.
    """
    figure, drawn = _grid(len(colours), height=5.2)
    for axes, (name, values) in zip(drawn, colours.items(), strict=True):
        axes.tick_params(labelsize=10)
        is_angle = name.startswith("angle")
        ends = (-np.pi, np.pi) if is_angle else (None, None)
        points = axes.scatter(
            found.points[:, 0], found.points[:, 1], c=values, s=9, lw=0, alpha=0.8,
            cmap=CYCLE if is_angle else SCALE, vmin=ends[0], vmax=ends[1],
        )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        first, second = (f"component {n + 1}, {found.shares[n]:.0%}" for n in range(2))
        name_axes(axes, name, first, second)
        part: Any = axes.figure  # its own panel
        bar = part.colorbar(points, ax=axes, shrink=0.75, pad=0.02)
        if is_angle:
            bar.set_ticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi], labels=QUARTERS)
    return figure


def plot_probes(probes: Sequence[Probe]) -> Figure:
    """Quantities that a linear probe reads from beliefs of other episodes, over the truth."""
    figure, drawn = _grid(min(PROBES_SHOWN, len(probes)), height=5.2)
    for axes, one in zip(drawn, probes, strict=False):
        ends = [one.true.min(), one.true.max()]
        axes.plot(ends, ends, color=LIGHT.neutral, lw=1.5, ls="--")
        axes.scatter(one.true, one.read, s=10, color=LIGHT.model, alpha=0.3, lw=0)
        name_axes(axes, f"{one.name}: R² = {one.r_squared:.3f}", "true", "read from the belief")
    return figure


def plot_curves(
    evaluations: Sequence[Evaluation],
    metrics: Sequence[Mapping[str, Any]],
    others: Mapping[int, Scores] | None = None,
) -> Figure:
    """Learning curves: the scores, and every loss.

    ``others``: published scores by steps; drawn are those at steps that the run has reached, and
    those at the next number of steps.
    """
    losses = list(dict.fromkeys(n for row in metrics for n in row if n.startswith("loss/")))
    lines = -(-max(0, len(losses) - 4) // 4)  # below the first four, which are next to the scores
    places = [[0, 0, 1, 2], [0, 0, 3, 4]]
    places += [[5 + 4 * line + column for column in range(4)] for line in range(lines)]
    figure, (score, *rest) = panels(places, width=15, height=5.8 + 2.9 * lines)
    trained = [row for row in metrics if "train_return" in row]
    score.plot(
        [row["env_steps"] for row in trained], [row["train_return"] for row in trained],
        color=LIGHT.neutral, lw=1.2, alpha=0.8, label="training episode, with exploration noise",
    )  # fmt: skip
    for number, evaluation in enumerate(evaluations):
        score.scatter(
            [evaluation.env_steps] * len(evaluation.returns), evaluation.returns,
            s=36, color=LIGHT.model, alpha=0.35, lw=0,
            label=None if number else "evaluation episode",
        )  # fmt: skip
    score.plot(
        [evaluation.env_steps for evaluation in evaluations],
        [np.mean(evaluation.returns) for evaluation in evaluations],
        color=LIGHT.model, marker="o", lw=2.5, label="evaluation, mean",
    )  # fmt: skip
    name_axes(score, "Score: return of whole episodes", "env steps (simulator steps)", "")
    draw_published(score, others or {}, max((e.env_steps for e in evaluations), default=0))
    score.legend(frameon=False, fontsize=13)
    for axes, name in zip(rest, losses, strict=False):
        rows = [row for row in metrics if name in row]
        marker = "o" if len(rows) == 1 else None
        steps, values = [row["env_steps"] for row in rows], [row[name] for row in rows]
        axes.plot(steps, values, color=LIGHT.model, lw=1.8, marker=marker)
        name_axes(axes, name, "", "")
    for axes in rest[len(losses) :]:
        axes.remove()
    for axes in (score, *rest[: len(losses)]):
        axes.xaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")
        axes.locator_params(axis="x", nbins=5 if axes is score else 3)  # numbers stand apart
    return figure


def draw_published(axes: Axes, others: Mapping[int, Scores], reached: int) -> None:
    """Draw published scores with names, at each number of steps that was reached and at the next.

    Draw the other curves first, because the distance between names depends on the axes' height.
    """
    steps = sorted(others)
    budgets = steps[: bisect.bisect_left(steps, reached) + 1]
    for budget in budgets:
        axes.axvline(budget, color=LIGHT.neutral, lw=1, ls=":")
        for value in shown(others[budget]).values():
            axes.plot(budget, value, color=LIGHT.hold_last, marker="D", ms=6, ls="none")
    low, high = axes.get_ylim()
    for budget in budgets:
        place = -math.inf
        for name, value in sorted(shown(others[budget]).items(), key=lambda item: item[1]):
            place = max(value, place + 0.055 * (high - low))  # names never overlap
            axes.annotate(
                f"{name} {value:.0f}", (budget, place), xytext=(9, 0), fontsize=11,
                color=LIGHT.neutral, textcoords="offset points", ha="left", va="center",
                annotation_clip=False,
            )  # fmt: skip


def darken(figure: Figure) -> Figure:
    """Change only the colours of a figure, for a dark page."""
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    figure.set_facecolor(DARK.card)
    for axes in figure.axes:
        axes.set_facecolor(DARK.card)
        axes.tick_params(colors=DARK.ink, grid_color=DARK.line, which="both")
        for spine in axes.spines.values():
            spine.set_edgecolor(LIGHT.neutral)
        for axis in (getattr(axes, f"{name}axis", None) for name in "xyz"):
            if axis is not None and hasattr(axis, "set_pane_color"):
                axis.set_pane_color((0, 0, 0, 0))
        for drawn in axes.collections:
            faces: Any = drawn.get_facecolor()  # [N, 4]
            colours = [to_hex(face) for face in faces]
            if drawn.get_array() is None and len(set(colours)) == 1:
                drawn.set_facecolor(in_the_dark(colours[0]))
    for line in figure.findobj(Line2D):
        line.set_color(in_the_dark(to_hex(line.get_color())))
    for text in figure.findobj(Text):
        text.set_color(DARK.ink)
    return figure


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=16, pad=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, at most three in a row."""
    columns = min(3, count)
    places = [list(range(first, first + columns)) for first in range(0, count, columns)]
    figure, drawn = panels(places, width=5.7 * columns, height=height * len(places))
    for axes in drawn[count:]:
        axes.remove()
    return figure, drawn[:count]


def panels(
    places: list[list[int]], width: float, height: float, **kind: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each number in ``places``, in their order.

    Each panel is a part of its own, so that a page can show them one below the other.
    """
    # imported here, because a robot may not have matplotlib
    import matplotlib
    from matplotlib.figure import Figure

    cells = np.array(places)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.add_gridspec(*cells.shape)
        drawn = []
        for number in range(cells.max() + 1):
            rows, columns = np.nonzero(cells == number)
            place = grid[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            drawn.append(figure.add_subfigure(place).subplots(subplot_kw=kind))
    return figure, drawn


def panel_boxes(figure: Figure) -> list[tuple[float, float, float, float]]:
    """Each panel's left, top, right and bottom, as shares of the figure; one without axes has none.

    A figure that was not made by ``panels`` is one panel.
    """
    boxes = []
    for part in figure.subfigs:
        if part.axes:
            box = part.bbox.transformed(figure.transSubfigure.inverted())
            boxes.append((box.x0, 1 - box.y1, box.x1, 1 - box.y0))
    return boxes or [(0.0, 0.0, 1.0, 1.0)]
