"""Curves, as matplotlib figures that belong to nobody: a notebook shows them, a file keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from worldmodel.log import Evaluation
from worldmodel.visualize.errors import HorizonErrors, RewardFit, psnr

if TYPE_CHECKING:  # plotting is no part of an import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind eyes tell apart; lines differ in style as well
MODEL, HOLD_LAST, MEAN, QUIET = "#0072B2", "#D55E00", "#009E73", "#777777"
STYLE: dict[Any, Any] = {
    "font.size": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
}


def plot_errors(errors: HorizonErrors) -> Figure:
    """Three panels over the distance: of images the error and the PSNR, of rewards the error."""
    figure, (image, decibels, reward) = _panels([[0, 1, 2]], width=17, height=5)
    marker = "o" if len(errors.ahead) == 1 else None
    for label, of_image, of_reward, colour, style in (
        ("model, open loop", errors.model, errors.reward_model, MODEL, "-"),
        ("hold-last", errors.hold_last, errors.reward_hold_last, HOLD_LAST, "--"),
        ("mean image", errors.mean_image, None, MEAN, "-."),
        ("mean reward", None, errors.reward_mean, MEAN, "-."),
    ):
        look: dict[str, Any] = {"label": label, "color": colour, "ls": style, "marker": marker}
        look["lw"] = 2.5
        if of_image is not None:
            image.plot(errors.ahead, of_image, **look)
            signal = psnr(of_image)
            decibels.plot(errors.ahead, np.where(np.isfinite(signal), signal, np.nan), **look)
        if of_reward is not None:
            reward.plot(errors.ahead, of_reward, **look)
    for axes, title, unit in (
        (image, "Image error: lower is better", "mean squared error, pixels in [0, 1]"),
        (decibels, "The same as PSNR: higher is better", "decibels"),
        (reward, "Reward error: lower is better", "mean squared error"),
    ):
        _name(axes, title, "rows imagined ahead", unit)
        axes.legend(frameon=False, fontsize=13)
    image.set_ylim(bottom=0)
    reward.set_ylim(bottom=0)
    return figure


def plot_reward(fit: RewardFit) -> Figure:
    """Rewards that the model reads from what it sees, against the true ones."""
    figure, (axes,) = _panels([[0]], width=6.5, height=6)
    low = min(fit.true.min(initial=0.0), fit.model.min(initial=0.0))
    high = max(fit.true.max(initial=0.0), fit.model.max(initial=0.0))
    axes.plot([low, high], [low, high], color=QUIET, lw=1.5, ls="--", label="exactly right")
    axes.scatter(fit.true, fit.model, s=18, color=MODEL, alpha=0.3, lw=0, label="one row")
    score = fit.r_squared
    told = "the true ones are all the same" if math.isnan(score) else f"R² = {score:.3g}"
    _name(axes, f"Reward read from the belief: {told}", "true reward", "the model's reward")
    axes.legend(frameon=False, fontsize=13)
    return figure


def plot_curves(evaluations: Sequence[Evaluation], metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """The run as it learned: scores above, every loss below."""
    losses = list(dict.fromkeys(n for row in metrics for n in row if n.startswith("loss/")))
    lines = -(-len(losses) // 4)
    places = [[0] * 4, [0] * 4]
    places += [[1 + 4 * line + column for column in range(4)] for line in range(lines)]
    figure, (score, *rest) = _panels(places, width=17, height=5.5 + 2.9 * lines)
    trained = [row for row in metrics if "train_return" in row]
    score.plot(
        [row["env_steps"] for row in trained], [row["train_return"] for row in trained],
        color=QUIET, lw=1.2, alpha=0.8, label="training episode, with exploration noise",
    )  # fmt: skip
    for number, evaluation in enumerate(evaluations):
        score.scatter(
            [evaluation.env_steps] * len(evaluation.returns), evaluation.returns,
            s=36, color=MODEL, alpha=0.35, lw=0, label=None if number else "evaluation episode",
        )  # fmt: skip
    score.plot(
        [evaluation.env_steps for evaluation in evaluations],
        [np.mean(evaluation.returns) for evaluation in evaluations],
        color=MODEL, marker="o", lw=2.5, label="evaluation, mean",
    )  # fmt: skip
    _name(score, "Score: return of whole episodes", "env steps (simulator steps)", "")
    score.legend(frameon=False, fontsize=13)
    for axes, name in zip(rest, losses, strict=False):
        told = [row for row in metrics if name in row]
        marker = "o" if len(told) == 1 else None
        steps, values = [row["env_steps"] for row in told], [row[name] for row in told]
        axes.plot(steps, values, color=MODEL, lw=1.8, marker=marker)
        _name(axes, name, "", "")
    for axes in rest[len(losses) :]:
        axes.remove()
    for axes in (score, *rest[: len(losses)]):
        axes.xaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")
        axes.locator_params(axis="x", nbins=5)
    return figure


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=16, pad=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _panels(places: list[list[int]], width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A calm figure with a panel for each number in ``places``, in their order."""
    # plotting is no part of an import; without pyplot no window and no global state
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplot_mosaic([[str(number) for number in line] for line in places])
    return figure, [panels[name] for name in sorted(panels, key=int)]
