"""Sizing of an agent: how many candidates fit a deadline on this machine, by measured plans."""

from __future__ import annotations

import statistics
from dataclasses import replace

from worldmodel.agent import Agent
from worldmodel.planners import with_candidates
from worldmodel.timing import require_deadline

# The numbers of candidates that ``within`` tries, and the share of the deadline for the search.
POPULATIONS = tuple(size for power in range(4, 13) for size in (2**power, 3 * 2 ** (power - 1)))
HEADROOM = 0.9


def within(agent: Agent, deadline_ms: float) -> Agent:
    """The same agent with as many candidates as one plan can evaluate before the deadline.

    It measures, so call it on the machine that will plan, as busy as that machine will be. Horizon
    and iterations stay, and so do the shares of elites and proposals.
    """
    require_deadline(deadline_ms)
    goal_ms = HEADROOM * deadline_ms
    fits = None
    for candidates in POPULATIONS:
        larger = sized(agent, candidates)
        plan_ms = _median_plan_ms(larger)
        if plan_ms > goal_ms:
            break
        fits = larger
    if fits is None:
        raise ValueError(
            f"within: {POPULATIONS[0]} candidates over {agent.horizon} rows take"
            f" {plan_ms:.1f} ms here, more than {goal_ms:g} of {deadline_ms:g} ms; ask for more"
            " time, or for a smaller planner.horizon or planner.iterations"
        )
    fits.warm_up()
    return fits


def sized(agent: Agent, candidates: int) -> Agent:
    """An agent of the same model with so many candidates, and the same shares of elites."""
    planner, planning = with_candidates(agent.planner), agent.planning
    share = candidates / planner.candidates
    elites = max(1, round(share * planner.elites))
    proposals = min(candidates - 1, round(share * planning.proposals))
    return agent.changed(
        planner=replace(planner, candidates=candidates, elites=elites),
        planning=replace(planning, proposals=proposals),
    )


def _median_plan_ms(agent: Agent) -> float:
    agent.plan_blank()
    return statistics.median(agent.plan_blank().milliseconds for _ in range(5))
