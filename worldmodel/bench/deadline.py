"""Measure plans with a deadline: how late they are, and how many iterations they finish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from worldmodel.assembly import agent_of
from worldmodel.bench.measure import Cell, Effort, Table
from worldmodel.bench.plan import ACTION_SIZE
from worldmodel.config import Config
from worldmodel.models import build
from worldmodel.planners import with_candidates
from worldmodel.structs import Spec

DEADLINES_MS = (5.0, 10.0, 20.0, 50.0)


def bench_deadline(
    config: Config, effort: Effort, deadlines_ms: Sequence[float] = DEADLINES_MS
) -> Iterator[Table]:
    """Time the whole call of ``agent.plan``, with every deadline in turn."""
    repetitions = effort.repetitions
    effort.say(f"plans with deadlines of {', '.join(f'{each:g}' for each in deadlines_ms)} ms")
    model = build(
        config.model, Spec((config.env.image_size, config.env.image_size, 3), ACTION_SIZE)
    )
    agent = agent_of(config, model.requires_grad_(False))
    agent.warm_up()
    belief = agent.initial()
    plan = agent.plan(belief)
    took = {deadline: np.zeros(repetitions) for deadline in deadlines_ms}
    iterations = dict.fromkeys(deadlines_ms, 0)  # of the search, summed
    for repetition in range(repetitions):
        for deadline in deadlines_ms:
            begun = time.perf_counter()
            plan = agent.plan(belief, previous=plan, seed=repetition, deadline_ms=deadline)
            took[deadline][repetition] = (time.perf_counter() - begun) * 1e3
            iterations[deadline] += plan.iterations
    rows: list[dict[str, Cell]] = [
        {
            "deadline ms": deadline,
            "ms": float(np.median(each)),
            "p99 ms": float(np.percentile(each, 99)),
            "p99.9 ms": float(np.percentile(each, 99.9)),
            "worst ms": float(each.max()),
            "late by over 1 ms": int((each > deadline + 1).sum()),
            "iterations": iterations[deadline] / repetitions,
        }
        for deadline, each in took.items()
    ]
    search = with_candidates(config.planner)
    yield Table(
        f"deadlines, {repetitions:,} calls each: {search.kind}, {search.candidates} candidates x"
        f" {search.iterations} x {search.horizon} rows",
        rows,
        [f"slices of {agent.timing.slice_size} candidates; the clock is read between slices"],
    )
