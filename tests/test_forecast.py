"""The time left of simulated runs, whose truth is known."""

from __future__ import annotations

import itertools
import types
from dataclasses import dataclass, replace
from typing import Any

import pytest

from worldmodel.loop.forecast import (
    HALF_LIFE_S,
    Costs,
    Kind,
    Schedule,
    Stage,
    Standing,
    seconds_left,
    stages_left,
)
from worldmodel.loop.outlook import Outlook
from worldmodel.rollout import Rows
from worldmodel.timing import warm_seconds

SCHEDULE = Schedule(
    seed_episodes=3,
    seed_updates=40,
    episodes_at_once=1,
    evaluate_every=300,
    evaluate_episodes=2,
    final_episodes=4,
    steps=1000,
)


def test_a_cost_is_the_mean_of_what_was_measured_and_recent_seconds_count_more() -> None:
    costs = Costs()
    assert costs.of("update") is None
    costs.add("update", 10, 5.0)
    assert costs.of("update") == 0.5
    costs.add("update", 10, HALF_LIFE_S)  # by its end the earlier measurement counts half
    assert costs.of("update") == (2.5 + HALF_LIFE_S) / (5 + 10)


def test_a_planned_row_stands_for_one_of_an_evaluation_until_that_was_measured() -> None:
    costs = Costs()
    costs.add("planned row", 4, 2.0)
    assert costs.of("evaluation row") == 0.5
    costs.add("evaluation row", 4, 1.0)
    assert (costs.of("planned row"), costs.of("evaluation row")) == (0.5, 0.25)


def known(**seconds: float) -> Costs:
    costs = Costs()
    for name, each in seconds.items():
        kind: Kind = name.replace("_", " ")  # type: ignore[assignment]
        costs.add(kind, 1, each)
    return costs


def test_two_processes_take_as_long_as_the_slower_one_and_one_process_takes_the_sum() -> None:
    costs = known(planned_row=2.0, update=3.0)
    stage = Stage({"planned row": 5}, {"update": 4}, times=2)
    assert stage.seconds(costs, at_once=True) == 2 * 12.0
    assert stage.seconds(costs, at_once=False) == 2 * 22.0
    assert Stage({"random row": 1}, {}).seconds(costs, at_once=True) is None
    assert Stage({"random row": 0}, {}).seconds(costs, at_once=True) == 0.0


def test_the_stages_of_a_run_before_its_first_update() -> None:
    """Two of three seed episodes are played, and 5 of the 50 rows of the third."""
    at = Standing(
        env_steps=200,
        episodes=2,
        rows_per_episode=50,
        steps_per_episode=100,
        updates_per_step=0.5,
        rows_played=5,
    )
    assert stages_left(SCHEDULE, at, 1000) == [
        Stage({"random row": 45}, {}),
        Stage({}, {"update": 40}),
        # seven rounds from step 300 on: those at 300, 600 and 900 evaluate
        Stage({"planned row": 50}, {"update": 50}, 4),
        Stage({"planned row": 50, "evaluation row": 100}, {"update": 50}, 3),
    ]


def test_the_stages_of_a_run_within_a_round_that_evaluates() -> None:
    at = Standing(
        env_steps=600,
        episodes=6,
        rows_per_episode=50,
        steps_per_episode=100,
        updates=100,
        updates_due=120,
        updates_per_step=0.5,
        next_evaluation=600,
        present_episodes=1,
        present_evaluation=2,
        rows_played=50,
        rows_evaluated=30,
    )
    assert stages_left(SCHEDULE, at, 1000) == [
        Stage({"planned row": 0, "evaluation row": 70}, {"update": 20}),
        Stage({"planned row": 50}, {"update": 50}, 2),
        Stage({"planned row": 50, "evaluation row": 100}, {"update": 50}),
    ]


def test_minutes_leave_the_rest_of_them_and_the_final_evaluation() -> None:
    schedule = replace(SCHEDULE, steps=None, minutes=2.0)
    at = Standing(wall_clock_s=30.0)
    assert seconds_left(schedule, at, Costs()) == 90.0
    at = replace(at, rows_per_episode=50.0)
    assert seconds_left(schedule, at, known(evaluation_row=0.5)) == 90.0 + 4 * 50 * 0.5
    late = replace(at, wall_clock_s=1000.0)
    assert seconds_left(schedule, late, known(evaluation_row=0.5)) == 4 * 50 * 0.5


def test_without_an_end_and_before_the_costs_are_known_no_time_is_said() -> None:
    at = Standing(rows_per_episode=50.0, steps_per_episode=100.0, env_steps=300, episodes=3)
    costs = known(planned_row=1.0, update=1.0)
    assert seconds_left(replace(SCHEDULE, steps=None), at, costs) is None
    assert seconds_left(SCHEDULE, at, known(planned_row=1.0)) is None
    assert seconds_left(SCHEDULE, Standing(), costs) is None
    assert seconds_left(replace(SCHEDULE, minutes=1.0), at, Costs()) is None


def test_of_two_limits_the_nearer_counts() -> None:
    at = Standing(
        rows_per_episode=50.0,
        steps_per_episode=100.0,
        env_steps=900,
        episodes=9,
        updates=340,
        next_evaluation=1200,
    )
    costs = known(planned_row=1.0, update=1.0, evaluation_row=1.0)
    final = 4 * 50.0
    assert seconds_left(replace(SCHEDULE, minutes=100.0), at, costs) == 50.0 + final
    assert seconds_left(replace(SCHEDULE, minutes=0.5), at, costs) == 30.0 + final


def test_the_final_evaluation_ends_at_nothing_left() -> None:
    at = Standing(rows_per_episode=50.0, is_final=True, rows_evaluated=150)
    assert seconds_left(SCHEDULE, at, known(evaluation_row=0.5)) == 25.0
    assert seconds_left(SCHEDULE, replace(at, rows_evaluated=230), known(update=1.0)) == 0.0


@dataclass(frozen=True)
class Machine:
    """True seconds of each kind of work, and how much slower two processes make each other."""

    random_row: float = 0.002
    planned_row: float = 0.03
    evaluation_row: float = 0.01
    update: float = 0.1
    disturbed: float = 1.0
    at_once: bool = True


def simulate(
    schedule: Schedule, machine: Machine, rows: int, repeat: int, rate: float
) -> list[tuple[float, float | None]]:
    """The time and the estimate at each look of a run whose clock is simulated.

    ``rows``: actions of an episode; ``repeat``: steps of an action; ``rate``: updates for a step.
    """
    steps, now, costs, looks = rows * repeat, 0.0, Costs(), []
    at = Standing(updates_per_step=rate)

    def look(**changes: float) -> None:
        nonlocal at
        at = replace(at, wall_clock_s=now, **changes)  # type: ignore[arg-type]
        looks.append((now, seconds_left(schedule, at, costs, machine.at_once)))

    for episode in range(1, schedule.seed_episodes + 1):
        now += rows * machine.random_row
        costs.add("random row", rows, rows * machine.random_row)
        look(
            episodes=episode,
            env_steps=episode * steps,
            rows_per_episode=rows,
            steps_per_episode=steps,
        )
    for update in range(1, schedule.seed_updates + 1):
        now += machine.update
        costs.add("update", 1, machine.update)
        look(updates=update)
    assert schedule.steps is not None
    while at.env_steps < schedule.steps:
        evaluates = at.env_steps >= at.next_evaluation
        collected = at.env_steps - schedule.seed_episodes * steps
        due = schedule.seed_updates + int(rate * collected)
        look(
            present_episodes=1,
            present_evaluation=schedule.evaluate_episodes if evaluates else 0,
            updates_due=due,
            rows_played=0,
            rows_evaluated=0,
        )
        slow = machine.disturbed if due > at.updates else 1.0
        plays = [("planned row", machine.planned_row * slow)] * rows
        if evaluates:
            plays += [("evaluation row", machine.evaluation_row * slow)] * (
                rows * schedule.evaluate_episodes
            )
        learns = [machine.update * machine.disturbed] * (due - at.updates)
        ends = [(moment, 0, kind) for moment, kind in _moments(plays)]
        late = ends[-1][0] if not machine.at_once else 0.0
        ends += [(late + moment, 1, "update") for moment, _ in _moments([("", s) for s in learns])]
        begun = now
        for moment, _, kind in sorted(ends):
            now = begun + moment
            costs.add(kind, 1, dict([*plays, ("update", machine.update * slow)])[kind])
            if kind == "update":
                look(updates=at.updates + 1)
            elif kind == "planned row":
                look(rows_played=at.rows_played + 1)
            else:
                look(rows_evaluated=at.rows_evaluated + 1)
        every = schedule.evaluate_every
        if evaluates:
            at = replace(at, next_evaluation=at.env_steps - at.env_steps % every + every)
        at = replace(at, episodes=at.episodes + 1, env_steps=at.env_steps + steps)
    at = replace(at, is_final=True, rows_evaluated=0)
    for row in range(schedule.final_episodes * rows):
        now += machine.evaluation_row
        look(rows_evaluated=row + 1)
    return looks


def _moments(work: list[tuple[str, float]]) -> list[tuple[float, str]]:
    ends = itertools.accumulate(seconds for _, seconds in work)
    return [(moment, kind) for moment, (kind, _) in zip(ends, work, strict=True)]


@pytest.mark.parametrize(
    ("machine", "rows", "repeat", "rate"),
    [
        (Machine(), 50, 2, 0.3),
        (Machine(disturbed=1.7), 50, 2, 0.3),
        (Machine(planned_row=0.3, evaluation_row=0.18), 50, 4, 0.15),
        (Machine(update=1.0), 30, 2, 0.3),
        (Machine(at_once=False), 50, 2, 0.3),
        (Machine(evaluation_row=0.03), 50, 1, 0.6),
    ],
)
def test_the_time_left_is_right_by_a_factor_of_two_from_the_first_number_on(
    machine: Machine, rows: int, repeat: int, rate: float
) -> None:
    looks = simulate(replace(SCHEDULE, steps=3000), machine, rows, repeat, rate)
    end = looks[-1][0]
    said = [(now, left) for now, left in looks if left is not None]
    assert len(said) > 0.5 * len(looks)
    for now, left in said:
        if end - now > 0.02 * end:
            assert 0.5 < left / (end - now) < 2.0, (now, left)
    assert said[-1][1] == 0.0
    rises = [b - a for (_, a), (_, b) in itertools.pairwise(said) if b > a]
    assert sum(rises) < 0.4 * said[0][1]  # nearly always it falls


def test_the_time_left_is_exact_where_nothing_disturbs() -> None:
    """A round learns from the steps before it, so the first round has no updates to wait for."""
    looks = simulate(replace(SCHEDULE, steps=3000), Machine(evaluation_row=0.03), 50, 2, 0.3)
    end = looks[-1][0]
    at_half = min(looks, key=lambda look: abs(look[0] - end / 2))
    assert at_half[1] == pytest.approx(end - at_half[0], rel=0.1)


class Slow:
    """Work whose calls take the given seconds of a clock."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self.left = list(seconds)

    def clock(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += self.left.pop(0)


def test_a_cost_is_the_median_of_warm_calls() -> None:
    slow = Slow(11.0, 0.25, 4.0, 0.5)
    assert warm_seconds(slow.work, clock=slow.clock) == 0.5
    assert slow.left == []


def test_calls_that_are_fast_are_repeated_until_the_limit() -> None:
    slow = Slow(11.0, *[1.0] * 9)
    assert warm_seconds(slow.work, most=8, limit_s=5.0, clock=slow.clock) == 1.0
    assert len(slow.left) == 4
    slow = Slow(11.0, *[1.0] * 9)
    warm_seconds(slow.work, most=4, limit_s=50.0, clock=slow.clock)
    assert len(slow.left) == 5


def test_the_first_cost_of_a_planned_row_leaves_out_the_first_plan() -> None:
    slow = Slow(11.0, 0.25, 4.0, 0.5)
    training: Any = types.SimpleNamespace(
        replay=types.SimpleNamespace(env_steps=0, episodes=0, rows=0),
        state=types.SimpleNamespace(updates=0, next_evaluation=0),
        wall_clock_s=0.0,
    )
    reporter: Any = types.SimpleNamespace(phase=lambda *_: None)
    collector: Any = types.SimpleNamespace(rows=Rows())
    outlook = Outlook(SCHEDULE, training, collector, reporter, slow.clock)
    outlook.costs.add("random row", 2, 0.5)
    agent: Any = types.SimpleNamespace(plan_blank=slow.work)
    outlook.begin_updates(10, 500.0, agent)
    assert outlook.costs.of("planned row") == 0.5 + 0.25
