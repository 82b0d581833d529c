"""Planning of an exported agent: where a search begins, the limits that it keeps, and its plan.

The same as ``worldmodel.planning`` in numpy, for one robot: a robot has no torch. A test compares
the plans of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldmodel.export.imagined import ImaginedReturn
from worldmodel.export.made import Plan
from worldmodel.export.search import Draw, Floats, Project, Search, Task
from worldmodel.limits import Limits
from worldmodel.timing import PlanTiming, TimedPlan


@dataclass(frozen=True)
class Beginning:
    """Where a search begins; ``start`` is the plan if there is no time for a search."""

    start: Floats  # [L, A]
    proposals: Floats  # [M, L, A] of the policy; M may be 0
    origin: str  # of ``start``: policy or previous


def begin(
    start: Floats,
    propose: Callable[[int], Floats],
    count: int,
    *,
    time: TimedPlan,
    may_follow: bool,
) -> Beginning:
    """Let the policy propose as many candidates as there is time for: all, its mean, or none.

    ``may_follow``: whether the policy has learned for this score, so that without time for a search
    the plan is the policy's.
    """
    proposals, in_haste = time.propose(propose, count)
    origin = "previous"
    if in_haste and len(proposals) and may_follow:
        start, origin = np.where(np.isfinite(proposals[0]), proposals[0], start), "policy"
    return Beginning(start, np.where(np.isfinite(proposals), proposals, start), origin)


def search_from(
    beginning: Beginning,
    planner: Search,
    imagined: ImaginedReturn,
    *,
    project: Project,
    draw: Draw,
    time: TimedPlan,
) -> tuple[Plan, PlanTiming]:
    """Search while there is time: the best plan found, and what the next one may take.

    If nothing was scored in time, the plan is the beginning itself.
    """
    start, proposals = beginning.start, beginning.proposals
    task = Task(imagined, start, proposals, draw, project, time.out_of_time, time.slice_size)
    found = planner.search(task)
    timing = time.end_search()
    actions, is_allowed = imagined.best_allowed(
        found.actions, found.elites[0], project(start[None])[0]
    )
    has_searched = time.deadline_ms is None or not np.isnan(found.value)
    plan = Plan(
        actions,
        found.value,
        found.elites,
        found.iterations,
        time.milliseconds,
        is_allowed,
        "search" if has_searched else beginning.origin,
    )
    return plan, timing


def shifted(previous: Plan | None, horizon: int, action_size: int) -> Floats:
    """The last plan, shifted by one row: [L, A]. Actions beyond its end are zero."""
    start = np.zeros((horizon, action_size), np.float32)
    if previous is not None:
        ahead = previous.actions[1 : horizon + 1]
        start[: len(ahead)] = ahead
    return start


def projection(
    limits: Limits | None,
    under_way: Floats,
    previous: Plan | None,
    *,
    action_size: int,
    has_choices: bool,
) -> Project:
    """Moves candidates [N, L, A] inside the limits, counted from the action before the plan."""
    if limits is None:
        return lambda candidates: candidates.clip(-1.0, 1.0)
    if has_choices:
        limits.refuse_for_choices()
    last: Any = None if previous is None else previous.first
    if len(under_way):
        last = under_way[-1]
    elif limits.last is not None:
        last = limits.last
    return limits.projection(action_size, last)
