"""Sections on plans: returns compared with what came, and the candidates of single decisions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from worldmodel.agent import Agent
from worldmodel.analysis import PlanReturns, PlansMade, compare_returns, look_into
from worldmodel.planners import ILQR
from worldmodel.report.figures import plot_decision, plot_returns
from worldmodel.report.folder import Folder
from worldmodel.report.page import Part, Section
from worldmodel.report.strips import strip_plans
from worldmodel.structs import Episode, Latent, at

DECISIONS = 3  # whose candidates are drawn

RETURNS_HEADER = """\
# returns over the next {horizon} rows and the value after them, by episode and row
# promised: by the plan; imagined: by the model, for the actions that were then done;
# obtained: the discounted rewards that came, plus the value of the belief after them
# apart: distance of the plan's first action, in [-1, 1], from the action that was done; with
#   choices it is 1 where the plan chose another
# spread: standard deviation of the candidates' returns before the search
"""


def can_plan(agent: Agent) -> bool:
    """Whether plans are for the learned reward, with which what came can be compared."""
    return (
        agent.planner is not None
        and agent.planning.goal is None
        and not isinstance(agent.planner, ILQR)
    )


def compare_plans(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    seeds: Sequence[int] | None,
    made: Sequence[PlansMade] | None,
) -> PlanReturns | None:
    """Compare the plans ``made``, or plan again; None, and a note, where that is not possible."""
    if agent.planner is None:
        folder.notes.append(
            "no plan was compared with what came: planner is none, so the policy acted, and nothing"
            " was searched"
        )
        return None
    ahead = agent.horizon
    if max(map(len, episodes)) <= ahead:
        folder.notes.append(
            f"no plan was compared with what came: no episode is longer than the look-ahead of"
            f" {ahead} rows; give longer episodes, or a smaller planner.horizon"
        )
        return None
    if not can_plan(agent):
        folder.notes.append(
            "no plan was compared with what came: ilqr plans for a score with a cost, and the"
            " learned reward has none, and a goal image (planning.goal) earns none; give the report"
            " an agent with another planner"
        )
        return None
    returns = compare_returns(agent, episodes, seeds or [0] * len(episodes), beliefs, made)
    names = ["episode", "row", "promised", "imagined", "obtained", "apart", "spread"]
    columns = zip(*(getattr(returns, name).tolist() for name in names), strict=True)
    folder.table("plans.csv", RETURNS_HEADER.format(horizon=ahead), names, columns)
    return returns


def show_plans(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    returns: PlanReturns,
) -> list[Section]:
    return [
        _show_returns(folder, returns, has_choices=agent.model.spec.has_choices),
        _show_decisions(folder, agent, episodes, beliefs, returns),
    ]


def _show_returns(folder: Folder, returns: PlanReturns, *, has_choices: bool) -> Section:
    bias = returns.model_bias
    return Section(
        "Is it the planner or the model?",
        f"On average the model imagines {abs(bias):.3g} too {'much' if bias > 0 else 'little'} for"
        f" the actions that were then done, of {np.mean(returns.obtained):.3g} obtained.",
        "Points far from the line on the left are errors of the model; if only those in the middle"
        " lie above it, the search is at fault.",
        folder.figure("returns.png", lambda: plot_returns(returns)),
        f"There are {len(returns.row)} decisions. A return is the next {returns.horizon} rewards,"
        " discounted, and the value after them, which is the model's own estimate in all three."
        f" The root mean square error of the model is {returns.model_error:.3g}. Plans promise"
        f" {returns.hope:.3g} more on average than the model imagines for the actions that were"
        " done: the planner plans again at every row, so these are other actions."
        + _compare_weights(returns, has_choices),
    )


def _compare_weights(returns: PlanReturns, has_choices: bool) -> str:
    if returns.is_played:
        return " The plans are those with which the episodes were played."
    apart = float(returns.apart.mean())
    if apart < 1e-3:
        return " The weights are those that played: planning again gave the same actions."
    change = (
        f"the plan begins with another choice at {apart:.0%} of the decisions"
        if has_choices
        else f"the plan's first action differs by {apart:.2g} on average (actions span 2)"
    )
    return f" When planned again, {change}: these weights, or this noise, did not play."


def _show_decisions(
    folder: Folder,
    agent: Agent,
    episodes: Sequence[Episode],
    beliefs: Latent,
    returns: PlanReturns,
) -> Section:
    parts: list[Part] = []
    places = returns.decisive(DECISIONS)
    for number, (episode, row) in enumerate(places):
        moment = look_into(agent, episodes[episode], at(beliefs, episode), row)
        parts.append(folder.strip(f"plans_{number}.png", strip_plans(moment)))
        parts += folder.figure(f"search_{number}.png", partial(plot_decision, moment))
    where = ", ".join(f"row {row} of episode {episode}" for episode, row in places)
    return Section(
        "What the planner compares",
        f"The decisions in which the candidates differ most: {where}.",
        "A good search ends with candidates near the plan's return (0) and elites that agree on"
        " the first actions (a narrow band).",
        parts,
        "First what really came, with later plans; then the plan; then candidates that the model"
        " imagined, from after the search and from before it. Numbers are imagined returns,"
        " compared with the plan's. The charts show every candidate's return by iteration, and the"
        " actions over the rows ahead: the plan, the band between the lowest and the highest elite,"
        " and what was done after it. A band that stays wide means that these actions make no"
        " difference.",
    )
