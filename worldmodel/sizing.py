"""How many candidates fit a deadline on this machine: measured with whole plans."""

from __future__ import annotations

import statistics
from dataclasses import replace

from worldmodel.agent import Agent
from worldmodel.planners import with_candidates

# What ``within`` tries, and the share of the deadline that the search may take.
POPULATIONS = tuple(size for power in range(4, 13) for size in (2**power, 3 * 2 ** (power - 1)))
HEADROOM = 0.9


def within(agent: Agent, deadline_ms: float) -> Agent:
    """The same agent with as many candidates as one plan can search in that time, here, now.

    It measures, so call it on the machine that will plan, as busy as that will be. Horizon and
    iterations stay, as do the shares of elites and proposals.
    """
    goal_ms = HEADROOM * deadline_ms
    fits = None
    for candidates in POPULATIONS:
        tried = sized(agent, candidates)
        took_ms = _median_plan_ms(tried)
        if took_ms > goal_ms:
            break
        fits = tried
    if fits is None:
        raise ValueError(
            f"within: {POPULATIONS[0]} candidates over {agent.planner.horizon} rows take"
            f" {took_ms:.1f} ms here, more than {goal_ms:g} of {deadline_ms:g} ms; ask for more"
            " time, or for a smaller planner.horizon or planner.iterations"
        )
    fits.warm_up()
    return fits


def sized(agent: Agent, candidates: int) -> Agent:
    """An agent of the same model that searches over so many."""
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
