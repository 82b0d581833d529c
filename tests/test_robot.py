from __future__ import annotations

import copy
import ctypes
import functools
import itertools
import math
import os
import pickle
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conftest import TINY, parts_of
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.images import ImageFit, fit_image
from worldmodel.models import WorldModel, build
from worldmodel.robot import (
    Answer,
    BlackBox,
    Controller,
    Guard,
    InlineWorker,
    InputCheck,
    Pilot,
    ProcessWorker,
    Row,
    read_black_box,
)
from worldmodel.robot.black_box import StepRow
from worldmodel.structs import Plan, Spec, at, leaves
from worldmodel.timing import PlanTiming

LOW, HIGH, CHANGE = np.array([-2.0, 0.1]), np.array([2.0, 7.3]), np.array([0.3, 1.1])
A, L = 2, 4
SHAPE = (16, 16, 3)
LIMIT_S = 90.0  # longest wait for an answer, which usually takes one to three seconds

fast = settings(deadline=None, database=None, derandomize=True, max_examples=300)


# ---------------------------------------------------------------- inputs of any kind


class Hostile:
    """An object that raises at any access."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __array__(self, *args: Any, **settings: Any) -> NDArray[Any]:
        raise RuntimeError("array")


class Liar:
    """An object that has the shape of an action but holds words."""

    shape = (A,)

    def __array__(self, *args: Any, **settings: Any) -> NDArray[Any]:
        return np.array(["up", "down"])


JUNK: list[Any] = [
    *(None, math.nan, math.inf, 0.5, 10**400, True, "left", b"left", (), [], {}, object, Ellipsis),
    *([1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [1.0, None], ["1", "2"], [10**400, 0], [True, False]),
    *([math.nan, 0.0], [0.0, -math.inf], [[1.0], [2.0, 3.0]], Hostile(), Liar(), [Hostile()] * 2),
    *(np.zeros(3), np.zeros((1, A)), np.zeros(()), np.zeros((A, 0)), np.zeros(0)),
    *(np.array([1, None]), np.array([1.0, 2.0], object), np.array(["a", "b"]), np.zeros(A, bool)),
    *(np.array([1j, 2.0]), np.array([1, 2], "datetime64[s]"), np.array([np.nan, 1.0], np.float16)),
    *(np.array([np.longdouble("1e400"), 0]), np.array([np.inf, 0.0], np.float32)),
    torch.zeros(A, requires_grad=True),
    torch.full((A,), math.nan),
]


def readable(random: np.random.Generator) -> Any:
    """Finite numbers of the right shape, many outside the limits, as one type or another."""
    numbers = random.choice([1e-300, 1e-3, 1.0, 10.0, 1e30, 1e300]) * random.standard_normal(A)
    kind = random.integers(6)
    if kind == 0:
        return numbers.tolist()
    if kind == 1:
        return tuple(numbers)
    if kind == 2:
        return np.clip(numbers, -1e38, 1e38).astype(np.float32)
    if kind == 3:
        return np.clip(numbers, -100, 100).astype(np.int8)
    if kind == 4:
        return np.repeat(numbers, 2)[::2]  # not contiguous
    return numbers


def anything(random: np.random.Generator) -> tuple[Any, NDArray[np.float64] | None]:
    """Any object, and its value as an action if it is one."""
    if random.random() < 0.5:
        return JUNK[random.integers(len(JUNK))], None
    action = readable(random)
    return action, np.asarray(action, np.float64)


def image_like(random: np.random.Generator, fault: str | None) -> Any:
    good = random.integers(0, 256, SHAPE, np.uint8)
    strange: list[Any] = [
        *(good[:8], good[0], good.astype(np.float32), good.astype(np.int64), good.tolist()),
        *(np.full(SHAPE, np.nan), good.astype(object), torch.zeros(SHAPE), *JUNK[1:]),
    ]
    if fault == "bad_image":
        return strange[random.integers(len(strange))]
    return None if fault == "no_image" else good


def assert_allowed(
    guard: Guard,
    action: NDArray[np.float32],
    last: NDArray[np.float32],
    executed: NDArray[np.float64] | None,
) -> None:
    """Check an action against the limits, without the guard's own arithmetic."""
    assert type(action) is np.ndarray
    assert action.dtype == np.float32
    assert action.shape == (A,)
    for each in range(A):
        low, high = float(LOW[each]), float(HIGH[each])
        start = float(last[each]) if executed is None else min(max(executed[each], low), high)
        went = float(action[each])
        assert math.isfinite(went)
        assert low <= went <= high
        # a start outside goes to the nearest float32 inside, so the start is that exact only
        slack = 0.0 if executed is None else 1e-6
        assert abs(went - start) <= float(CHANGE[each]) + slack


# ---------------------------------------------------------------- the guard


def random_walk(guard: Guard, seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    last = guard.inside(np.zeros(A))
    for _ in range(steps):
        candidate, _ = anything(random)
        executed, reached = anything(random)
        action = guard.restrict(candidate, last, executed)
        assert_allowed(guard, action, last, reached)
        last = action


def test_any_input_gives_an_allowed_action() -> None:
    random_walk(Guard(LOW, HIGH, CHANGE), seed=0, steps=10_000)


@pytest.mark.slow
def test_a_million_inputs_give_allowed_actions() -> None:
    random_walk(Guard(LOW, HIGH, CHANGE), seed=1, steps=1_000_000)


def test_a_guard_without_one_of_its_limits_fails_these_tests() -> None:
    class NoChange(Guard):
        def restrict(self, candidate, last, executed=None):  # type: ignore[no-untyped-def]
            desired = self.read(candidate)
            return last if desired is None else self.inside(desired)

    class NoLimits(Guard):
        def restrict(self, candidate, last, executed=None):  # type: ignore[no-untyped-def]
            reached = self.read(executed)
            desired = self.read(candidate)
            begin = last if reached is None else self.inside(reached)
            if desired is None:
                return begin
            change = np.clip(desired - begin, -self.max_change / 2, self.max_change / 2)
            return (begin + change).astype(np.float32)

    class Doubles(Guard):
        def restrict(self, candidate, last, executed=None):  # type: ignore[no-untyped-def]
            return super().restrict(candidate, last, executed).astype(np.float64)

    class Deaf(Guard):
        def restrict(self, candidate, last, executed=None):  # type: ignore[no-untyped-def]
            return super().restrict(candidate, last)

    for broken in (NoChange, NoLimits, Doubles, Deaf):
        with pytest.raises(AssertionError):
            random_walk(broken(LOW, HIGH, CHANGE), seed=0, steps=10_000)


@fast
@given(
    st.floats(-1e30, 1e30), st.floats(1e-30, 1e30), st.floats(1e-35, math.inf), st.floats(),
    st.floats(), st.floats(),
)  # fmt: skip
def test_any_limits_hold_for_any_floats(
    low: float, width: float, change: float, first: float, second: float, executed: float
) -> None:
    try:
        guard = Guard([low], [low + width], change)
    except ValueError:
        return  # float32 has no two numbers there
    last = guard.inside(np.zeros(1))
    for candidate in (first, second):
        action = guard.restrict([candidate], last)
        assert low <= float(action[0]) <= low + width
        assert abs(float(action[0]) - float(last[0])) <= change
        last = action
    action = guard.restrict([first], last, [executed])
    assert low <= float(action[0]) <= low + width
    if math.isfinite(executed):
        start = guard.inside(np.array([executed]))
        assert abs(float(action[0]) - float(start[0])) <= change


def test_low_and_high_win_over_the_change_from_what_was_executed() -> None:
    guard = Guard([-1.0], [1.0], 0.25)
    last = np.zeros(1, np.float32)
    assert guard.restrict([-5.0], last, executed=[9.0]).tolist() == [0.75]
    assert guard.restrict([5.0], last, executed=[-9.0]).tolist() == [-0.75]
    assert guard.restrict(None, last, executed=[9.0]).tolist() == [0.75]
    assert guard.restrict([0.9], last, executed=[0.5]).tolist() == [0.75]
    assert guard.restrict([0.9], last, executed=[math.nan]).tolist() == [0.25]


def test_a_candidate_inside_its_limits_is_not_changed() -> None:
    guard = Guard([-1.0, -1.0], [1.0, 1.0], [0.5, math.inf])
    last = np.array([0.25, -1.0], np.float32)
    assert guard.restrict(np.array([0.7, 1.0]), last).tolist() == np.float32([0.7, 1]).tolist()


def test_the_agents_range_is_scaled_linearly_to_the_motors() -> None:
    guard = Guard([-2.0, 0.0], [2.0, 8.0], 1.0)
    assert guard.to_motor(np.array([0.5, -1.0])).tolist() == [1.0, 0.0]
    assert guard.to_motor(np.array([9.0, 0.5])).tolist() == [2.0, 6.0]
    assert guard.to_agent(np.array([1.0, 6.0])).tolist() == [0.5, 0.5]
    assert guard.to_agent(np.array([-99.0, 99.0])).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "change", "said"),
    [
        (0.0, 1.0, 1.0, r"low: expected \[A\], one number for each motor, got 0.0"),
        ([], [], 1.0, r"low: expected \[A\]"),
        ([0, 0], [1], 1.0, r"high: expected \[2\] as low, got \[1\]"),
        ([0], [math.inf], 1.0, r"high: expected finite float32 numbers, got \[inf\]"),
        ([math.nan], [1], 1.0, r"low: expected finite float32 numbers, got \[nan\]"),
        ([-1e300], [1], 1.0, r"low: expected finite float32 numbers"),
        ([0, 1], [1, 1], 1.0, r"low, high: expected low < high, got \[0.0, 1.0\] and"),
        ([0.1], [0.1 + 1e-12], 1.0, "low, high: float32 has no two numbers between"),
        ([0], ["one"], 1.0, r"high: expected numbers, got \['one'\]"),
        ([0], [1], 0.0, "max_change: expected more than 0, got 0.0"),
        ([0], [1], math.nan, "max_change: expected more than 0, got nan"),
        ([0], [1], [1, 1], r"max_change: expected one number or \[1\], got \[2\]"),
        ([0], [1], None, "max_change: expected numbers, got None"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(
    low: Any, high: Any, change: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Guard(low, high, change)


# ---------------------------------------------------------------- the levels, on a fake clock


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.wrong_by = 0.0

    def __call__(self) -> float:
        return self.now + self.wrong_by


class FakeWorker:
    """A worker that answers as ``behave`` says; the clock advances while the controller waits."""

    fitting = ImageFit(SHAPE)
    action_size = A

    def __init__(self, clock: Clock, vector_sizes: dict[str, int] | None = None) -> None:
        self.clock = clock
        self.vector_sizes = vector_sizes or {}
        self.rows: list[Row] = []
        self.behave: Callable[[int], list[Any]] = self.plan
        self.waits = True
        self.is_closed = False

    @property
    def counts(self) -> dict[str, int]:
        return {"died": 3}

    def plan(self, number: int) -> list[Answer]:
        """A plan with the action 0.01 for the first step, 0.02 for the second, and so on."""
        return [Answer(number, self.meant_for(number))]

    def meant_for(self, number: int) -> NDArray[np.float32]:
        steps = np.arange(number, number + L, dtype=np.float32)
        return np.repeat(steps[:, None] / 100, A, axis=1)

    def hand_over(self, row: Row) -> None:
        self.rows.append(row)

    def answers(self, number: int, wait_s: float) -> list[Any]:
        if self.waits:
            self.clock.now += wait_s
        return self.behave(number) if self.rows[-1].image is not None else []

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A controller at 10 Hz on a fake clock; plans and holds last a quarter of a second."""

    def __init__(self, vector_sizes: dict[str, int] | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.worker = FakeWorker(self.clock, vector_sizes)
        self.random = np.random.default_rng(0)
        about: dict[str, Any] = {"low": [-1, -1], "high": [1, 1], "max_change": 2.0, **settings}
        self.controller = Controller(
            self.worker, rate_hz=10, max_age_s=0.25, clock=self.clock, **about
        )

    def image(self) -> NDArray[np.uint8]:
        return self.random.integers(0, 256, SHAPE, np.uint8)

    def step(self, image: Any = "good", executed: Any = None, taken_at: Any = None) -> list[float]:
        image = self.image() if isinstance(image, str) else image
        before = self.clock.now
        action = self.controller.step(image, executed, taken_at)
        self.clock.now = before + 0.1
        rounded: list[float] = np.round(action.astype(np.float64), 4).tolist()
        return rounded

    def states(self, steps: int, **given: Any) -> list[str]:
        return [(self.step(**given), self.controller.state)[1] for _ in range(steps)]


def test_the_levels_follow_one_another_and_are_counted() -> None:
    bench = Bench()
    went = [bench.step() for _ in range(3)]
    assert went == [[0.0, 0.0], [0.01, 0.01], [0.02, 0.02]]
    assert bench.controller.state == "plan"
    went, states = [], []
    for _ in range(8):
        went.append(bench.step(None)[0])
        states.append(bench.controller.state)
    assert states == ["shifted"] * 2 + ["hold"] * 2 + ["stop"] * 4
    assert went == [0.03, 0.04, 0.04, 0.04, 0, 0, 0, 0]
    counts = bench.controller.counts
    assert [counts[level] for level in ("plan", "shifted", "hold", "stop")] == [3, 2, 2, 4]
    assert counts["no_image"] == 8
    assert counts["died"] == 3  # the counts of the worker are included


def test_after_a_stop_it_must_be_armed_by_hand() -> None:
    bench = Bench()
    bench.states(1)
    assert bench.states(10, image=None)[-1] == "stop"
    assert bench.states(5) == ["stop"] * 5
    assert not bench.controller.is_armed
    bench.controller.arm()
    assert bench.states(2) == ["plan"] * 2
    bench.states(10, image=None)
    bench.controller.arm()
    assert bench.states(5, image=None) == ["hold"] * 3 + ["stop"] * 2
    bench.controller.arm()
    held = []
    for _ in range(5):
        held += bench.states(1, image=None)
        bench.controller.arm()
    assert held[:4] == ["hold"] * 3 + ["stop"]  # arming an armed controller changes nothing


def test_stopping_goes_to_rest_no_faster_than_allowed() -> None:
    bench = Bench(rest=[-0.5, 0.5], max_change=0.2)
    assert bench.step(None) == [-0.5, 0.5]  # it is at rest before the first plan
    bench.step(executed=[0.4, 0.4])
    bench.states(5, image=None)
    went = [bench.step(None) for _ in range(6)]
    assert bench.controller.state == "stop"
    assert went[-1] == [-0.5, 0.5]
    assert np.abs(np.diff(went, axis=0)).max() <= 0.2001


def test_a_plan_too_short_for_its_age_leads_to_hold() -> None:
    bench = Bench()
    bench.worker.behave = lambda number: [Answer(number, bench.worker.meant_for(number)[:1])]
    assert bench.states(1) == ["plan"]
    assert bench.states(4, image=None) == ["hold"] * 2 + ["stop"] * 2


def test_a_late_plan_is_followed_from_the_action_meant_for_now() -> None:
    bench = Bench()
    bench.worker.behave = lambda number: bench.worker.plan(number - 2) if number > 1 else []
    went = [bench.step()[0] for _ in range(5)]
    assert went == [0, 0, 0.02, 0.03, 0.04]
    assert bench.controller.state == "shifted"


def test_an_older_plan_does_not_replace_a_newer_one() -> None:
    bench = Bench()
    bench.states(2)
    worker = bench.worker
    worker.behave = lambda number: [Answer(0, -worker.meant_for(0))]
    assert bench.step() == [0.02, 0.02]


def test_an_invalid_plan_does_not_replace_the_last_one() -> None:
    bench = Bench()
    bench.states(1)
    good = bench.worker.meant_for(0)
    for number, actions in enumerate(
        [good * np.nan, good[:, :1], good[0], "plan", good.astype(object), good[:0], [[0.0] * A]]
    ):
        bench.worker.behave = lambda n, actions=actions: [Answer(n, actions)]  # type: ignore[misc]
        bench.step()
        assert bench.controller.counts["bad_plan"] == number + 1
        if number < 2:
            assert bench.controller.state == "shifted"


def test_an_error_of_the_worker_is_counted_and_its_message_is_last_error() -> None:
    bench = Bench()
    bench.states(1)

    def throw(number: int) -> list[Answer]:
        raise ZeroDivisionError("by a planner")

    bench.worker.behave = throw
    assert bench.states(6) == ["shifted"] * 2 + ["hold"] * 2 + ["stop"] * 2
    assert bench.controller.counts["planner_error"] == 6
    assert bench.controller.last_error == "ZeroDivisionError: by a planner"
    bench.worker.behave = lambda number: [Answer(number, None, error="it said so")]
    bench.step()
    assert bench.controller.last_error == "it said so"


def test_a_broken_clock_stops_the_motor() -> None:
    bench = Bench()
    bench.states(1)
    bench.clock.now = math.nan
    assert bench.controller.step(bench.image()).tolist() == [0.0, 0.0]
    assert bench.controller.state == "stop"
    assert bench.controller.counts["own_error"] == 1
    assert "clock" in str(bench.controller.last_error)


def test_after_a_clock_jumps_ahead_and_back_no_action_is_held_for_ever() -> None:
    bench = Bench()
    bench.states(3)
    bench.clock.now += 3600
    bench.states(1)
    bench.clock.now -= 3600
    assert bench.states(2) == ["plan"] * 2
    assert [row.begins for row in bench.worker.rows] == [True, False, False, True, True, False]
    went = bench.states(20, image=None)
    assert went[:5] == ["shifted"] * 2 + ["hold"] * 2 + ["stop"]
    assert set(went[5:]) == {"stop"}
    assert bench.controller.counts["clock_back"] == 1


def test_images_are_late_and_frozen_by_a_clock_that_came_back_too() -> None:
    bench = Bench()
    bench.clock.now += 3600
    bench.states(2)
    bench.clock.now -= 3600
    assert bench.states(1, taken_at=bench.clock.now - 0.1) == ["plan"]
    bench.states(1, taken_at=bench.clock.now - 0.4)
    assert bench.controller.counts["late_image"] == 1
    bench.states(8, image=bench.image())
    assert bench.controller.counts["frozen_image"] == 5
    assert bench.controller.state == "stop"


def test_no_plan_from_before_a_step_back_of_the_clock_is_followed() -> None:
    bench = Bench()
    bench.states(2)
    bench.clock.now -= 0.2  # and 0.1 on in each step
    assert bench.states(5, image=None)[0] == "hold"
    assert bench.controller.state == "stop"


def test_a_clock_that_runs_backwards_comes_to_a_stop() -> None:
    bench = Bench()
    bench.states(2)
    went = []
    for _ in range(10):
        bench.clock.now -= 0.2  # and 0.1 on in each step
        went += bench.states(1, image=None)
    assert went == ["hold"] * 2 + ["stop"] * 8
    assert bench.controller.counts["clock_back"] == 10


def test_a_clock_that_steps_back_within_a_step_does_not_lengthen_the_wait() -> None:
    bench = Bench()
    waited: list[float] = []

    def hand_over(row: Row) -> None:
        bench.clock.now -= 3600

    def answers(number: int, wait_s: float) -> list[Answer]:
        waited.append(wait_s)
        return []

    bench.worker.hand_over = hand_over  # type: ignore[method-assign]
    bench.worker.answers = answers  # type: ignore[method-assign]
    bench.step()
    assert waited == [0.05]


@pytest.mark.parametrize("fault", range(7))
def test_invalid_images_are_counted_and_never_reach_the_planner(fault: int) -> None:
    bench = Bench()
    good = bench.image()
    bad: list[Any] = [
        *(good[:8], good.astype(np.float32), np.full(SHAPE, np.nan), good.tolist()),
        *("image", good[..., 0], Hostile()),
    ]
    bench.states(1)
    bench.controller.step(bad[fault])
    assert bench.controller.counts["bad_image"] == 1
    assert [row.image is None for row in bench.worker.rows] == [False, True]


def test_an_image_that_stays_the_same_is_a_frozen_camera() -> None:
    bench = Bench()
    image = bench.image()
    states = bench.states(8, image=image)
    assert states == ["plan"] * 3 + ["shifted"] * 2 + ["hold"] * 2 + ["stop"]
    assert bench.controller.counts["frozen_image"] == 5
    still = Bench(max_still_s=math.inf)
    assert still.states(8, image=image) == ["plan"] * 8


def test_arming_before_a_frozen_camera_moves_nothing() -> None:
    bench = Bench()
    image = bench.image()
    bench.states(12, image=image)
    bench.controller.arm()
    assert bench.states(4, image=image) == ["hold"] * 3 + ["stop"]
    assert bench.step(image) == [0.0, 0.0]


def test_a_camera_that_fills_its_buffer_again_is_not_frozen() -> None:
    bench = Bench()
    buffer = bench.image()
    for number in range(8):
        buffer[...] = number
        assert bench.states(1, image=buffer) == ["plan"]
    assert [int(row.image[0, 0, 0]) for row in bench.worker.rows if row.image is not None] == list(
        range(8)
    )


@pytest.mark.parametrize(
    "late",
    [-0.3, -1e9, 0.2, math.nan, math.inf, -math.inf, "now", None, True, 1j, 10**400],
)
def test_an_image_with_an_old_or_impossible_time_is_late(late: Any) -> None:
    bench = Bench()
    taken_at = bench.clock.now + late if type(late) is float else late
    taken_at = Hostile() if late is Hostile else taken_at
    bench.step(taken_at=taken_at)
    expected = 0 if late is None else 1
    assert bench.controller.counts["late_image"] == expected


JOINTS = {"joints": 5}


def feeling(bench: Bench, joints: Any) -> dict[str, Any]:
    return {"image": bench.image(), "joints": joints}


def test_vectors_reach_the_planner_with_their_image_as_they_were() -> None:
    bench = Bench(JOINTS)
    joints = np.zeros(5)
    for number in range(4):
        joints[...] = number  # a driver that reuses its buffer
        seen = feeling(bench, joints)
        assert bench.states(1, image=seen) == ["plan"]
        np.testing.assert_array_equal(bench.worker.rows[-1].image, seen["image"])
    vectors = [row.vectors["joints"] for row in bench.worker.rows]
    assert [vector.tolist() for vector in vectors] == [[number] * 5 for number in range(4)]
    assert {vector.dtype for vector in vectors} == {np.dtype(np.float32)}
    assert bench.states(1, image={"joints": joints}) == ["shifted"]
    assert bench.controller.counts["no_image"] == 1


def test_invalid_vectors_are_counted_and_never_reach_the_planner() -> None:
    strange = [np.zeros(4), [1e300, 0, 0, 0, 0], [0, math.nan, 0, 0, 0], np.zeros((1, 5))]
    bench = Bench(JOINTS)
    for number, joints in enumerate([*JUNK, *strange]):
        bench.step(feeling(bench, joints))
        assert bench.controller.counts["bad_vector"] == number + 1, number
        assert bench.worker.rows[-1].observation is None
    bench.step({"image": bench.image()})
    assert bench.controller.counts["bad_vector"] == number + 2
    bench.step(feeling(bench, np.zeros(5, int)))
    assert bench.worker.rows[-1].observation is not None


def test_images_of_cameras_are_fitted_as_the_agent_does() -> None:
    bench = Bench()
    large = bench.random.integers(0, 256, (48, 48, 3), np.uint8)
    bench.step(large)
    assert np.array_equal(bench.worker.rows[-1].image, fit_image(large, 16))
    bench.step(large[:, :24])  # another picture
    assert bench.controller.counts["bad_image"] == 1
    shape = (12, 16, 3)
    bench.worker.fitting = ImageFit((16, 16, 6), "pad", {"front": shape, "wrist": shape})
    check = InputCheck(bench.worker.fitting, {}, 0.25, {"image": 0.25}, 0.1)
    front, wrist = bench.random.integers(0, 256, (2, *shape), np.uint8)
    read = check.check({"front": front, "wrist": wrist}, None, 0.0)
    assert read.image is not None
    assert np.array_equal(read.image[..., 3:], fit_image(wrist, 16, "pad"))
    assert check.check({"front": front, "wrist": None}, None, 0.1).fault == "no_image"
    assert check.check({"front": front}, None, 0.1).fault == "no_image"
    assert check.check({"front": front, "wrist": wrist + 1}, None, 0.3).fault == "frozen_image"


@pytest.mark.parametrize(
    "given",
    [np.zeros((36, 64, 3), np.uint8), np.zeros(SHAPE), np.zeros((16, 16), np.uint8), [[1]]],
    ids=["aspect", "float", "grey", "list"],
)
def test_a_wrong_image_is_counted_and_answered_with_the_agents_own_sentence(given: Any) -> None:
    bench = Bench()
    bench.step(given)
    assert bench.controller.counts["bad_image"] == 1
    with pytest.raises(ValueError, match="type: image = ") as no:
        ImageFit(SHAPE)(given)
    assert bench.controller.last_fault == str(no.value)


def test_what_changes_outside_of_the_crop_shows_that_a_camera_is_alive() -> None:
    fit = ImageFit(SHAPE, "crop", {"image": (48, 64, 3)})
    check, image = InputCheck(fit, {}, 0.25, {"image": 0.25}, 0.1), np.zeros((48, 64, 3), np.uint8)
    for step in range(9):
        image[0, 0] = step  # this corner is cut off
        assert check.check(image, None, 0.1 * step).fault is None
    assert check.check(image, None, 1.1).fault == "frozen_image"


def test_an_agent_with_vectors_needs_them_with_the_image() -> None:
    class Closed(dict[str, Any]):
        def get(self, *given: Any) -> Any:
            raise RuntimeError("get")

    bench = Bench(JOINTS)
    bench.step()
    assert bench.controller.counts["bad_vector"] == 1
    bench.step(Closed())
    assert bench.controller.counts["bad_image"] == 1
    alone = Bench()
    assert alone.states(1, image={"image": alone.image()}) == ["plan"]
    alone.step(feeling(alone, np.zeros(5)))
    assert alone.controller.counts["bad_vector"] == 1


def test_only_a_vector_named_in_max_still_s_can_be_frozen() -> None:
    def states(**settings: Any) -> tuple[list[str], Bench]:
        bench = Bench(JOINTS, **settings)
        return [bench.states(1, image=feeling(bench, [1, 2, 3, 4, 5]))[0] for _ in range(8)], bench

    went, bench = states(max_still_s={"joints": 0.25})
    assert went == ["plan"] * 3 + ["shifted"] * 2 + ["hold"] * 2 + ["stop"]
    assert bench.controller.counts["frozen_vector"] == 5
    assert bench.controller.counts["frozen_image"] == 0
    went, bench = states()
    assert went == ["plan"] * 8
    image = bench.image()  # which is guarded, named or not
    moving = [{"image": image, "joints": [number] * 5} for number in range(8)]
    assert [bench.states(1, image=seen)[0] for seen in moving][-1] == "stop"
    assert bench.controller.counts["frozen_image"] == 5


def test_a_still_limit_of_an_unknown_input_is_refused() -> None:
    worker = FakeWorker(Clock(), JOINTS)
    with pytest.raises(ValueError, match=r"max_still_s: expected image, joints, .*; got knees"):
        free(worker, max_still_s={"knees": 1.0})
    assert worker.is_closed


def test_a_late_image_repeated_without_a_time_is_still_late() -> None:
    bench = Bench()
    image = bench.image()
    bench.step(image, taken_at=bench.clock.now - 1.0)
    bench.step(image)
    assert bench.controller.counts["late_image"] == 1
    assert bench.controller.counts["frozen_image"] == 1
    assert bench.states(1) == ["plan"]


def test_an_image_from_before_the_last_one_is_late() -> None:
    bench = Bench()
    bench.step(taken_at=99.99)
    bench.step(taken_at=99.98)
    bench.step(taken_at=99.99)
    assert bench.controller.counts["late_image"] == 1


def test_a_plan_ages_from_when_its_image_was_taken() -> None:
    bench = Bench()
    bench.step(taken_at=bench.clock.now - 0.2)
    assert bench.states(2, image=None) == ["hold"] * 2


def test_the_planner_gets_the_executed_action_in_its_own_units() -> None:
    bench = Bench(low=[-2, 0], high=[2, 8], max_change=100)
    bench.step()  # the plan's 0, 0 is 0, 4 of the motor
    bench.step(executed=[1, 4])
    bench.step()
    bench.step(executed=[math.nan, 4])
    bench.step(executed=[99, -99])
    actions = [row.action for row in bench.worker.rows]
    assert actions[0] is None
    np.testing.assert_allclose(
        np.array(actions[1:]), [[0.5, 0], [0.01, 0.01], [0.02, 0.02], [1, -1]], atol=1e-6
    )
    assert bench.controller.counts["bad_executed"] == 1


def test_every_step_is_a_row_and_a_pause_begins_a_new_belief() -> None:
    bench = Bench()
    bench.states(2)
    bench.states(1, image=None)
    bench.clock.now += 0.3
    bench.states(2)
    assert [row.number for row in bench.worker.rows] == [0, 1, 2, 3, 4]
    assert [row.begins for row in bench.worker.rows] == [True, False, False, True, False]


def test_changing_the_returned_action_does_not_change_the_controller() -> None:
    bench = Bench(max_change=0.1)
    bench.controller.step(bench.image())[:] = math.nan
    bench.clock.now += 0.1
    assert np.isfinite(bench.controller.step(None)).all()


def test_a_closed_controller_holds_and_then_stops() -> None:
    bench = Bench()
    with bench.controller as controller:
        bench.step()
    assert bench.worker.is_closed
    bench.worker.behave = lambda number: []
    assert bench.states(6)[-1] == "stop"
    assert controller.step(None).tolist() == [0, 0]


def any_drive(seed: int, steps: int) -> None:
    """Drive with random faults of every part together; each fault lasts for some steps."""
    random = np.random.default_rng(seed)
    clock = Clock()
    worker = FakeWorker(clock, JOINTS)
    controller = Controller(
        worker, 10, LOW, HIGH, CHANGE, max_age_s=0.35, max_still_s={"joints": 0.35}, clock=clock
    )
    period = 0.1

    def behave(number: int) -> list[Any]:
        mood = moods["planner"]
        if mood == "throws":
            raise RuntimeError("planner")
        if mood == "strange":
            junk = JUNK[random.integers(len(JUNK))]
            return [junk, Answer(number, junk), Answer(JUNK[random.integers(len(JUNK))], junk)]
        if mood == "broken":
            return [Answer(number, random.choice([np.nan, np.inf, 1e30]) * np.ones((L, A)))]
        late = random.integers(5) if mood == "late" else 0
        size = random.choice([0.1, 1.0, 50.0])
        plan = size * random.standard_normal((L, A)).astype(np.float32)
        return [] if mood == "silent" else [Answer(number - int(late), plan)]

    worker.behave = behave
    image_moods = [None] * 6 + ["no_image", "bad_image", "late", "frozen", "bad_vector", "stuck"]
    planner_moods = ["good", "good", "good", "late", "silent", "throws", "strange", "broken"]
    moods: dict[str, Any] = {"image": None, "planner": "good"}
    last = controller.guard.inside(np.zeros(A))
    image, joints = image_like(random, None), random.standard_normal(5)
    seen_at = mood_since = clock.now
    for _ in range(steps):
        if random.random() < 0.1:
            mood_before = moods["image"]
            moods["image"] = image_moods[random.integers(len(image_moods))]
            mood_since = mood_since if moods["image"] == mood_before else clock.now
        if random.random() < 0.1:
            moods["planner"] = planner_moods[random.integers(len(planner_moods))]
        worker.waits = bool(random.random() < 0.5)
        if random.random() < 0.05:
            controller.arm()
            seen_at = clock.now
        image = image if moods["image"] == "frozen" else image_like(random, moods["image"])
        joints = joints if moods["image"] == "stuck" else random.standard_normal(5)
        vector = JUNK[random.integers(len(JUNK))] if moods["image"] == "bad_vector" else joints
        observed = image if random.random() < 0.01 else {"image": image, "joints": vector}
        taken_at = clock() - random.uniform(0.36, 9) if moods["image"] == "late" else None
        # An input that has been unchanged for a short time is accepted; each input may be in turn.
        still_believed = moods["image"] in ("frozen", "stuck") and clock.now - mood_since <= 0.35
        if moods["image"] is None or still_believed:
            seen_at = clock.now
        executed, reached = anything(random) if random.random() < 0.5 else (None, None)
        before = clock.now
        action = controller.step(observed, executed, taken_at)
        assert_allowed(controller.guard, action, last, reached)
        assert clock.now - before <= 0.5 * period + 1e-9
        if before - seen_at > 2 * 0.35 + 2 * period:  # plan and hold last at most 0.35 s each
            assert controller.state == "stop"
        if controller.state == "stop":
            assert not controller.is_armed
        last = action
        clock.now = before + period * random.choice([0.2, 1.0, 1.0, 1.0, 1.3, 5.0])
        if random.random() < 0.01:
            clock.wrong_by += random.choice([1.0, 3600.0])
        elif random.random() < 0.02:  # the clock steps back, and the wait ends after a period
            clock.now = before + period
            clock.wrong_by -= period + random.choice([0.01, 1.0, 3600.0])
    counts = controller.counts
    assert sum(counts[level] for level in ("plan", "shifted", "hold", "stop")) == steps
    assert counts["own_error"] == 0
    if steps >= 5000:  # enough steps that every fault was counted
        assert not [name for name, count in counts.items() if not count and name != "own_error"]


def test_no_fault_of_camera_planner_or_robot_breaks_a_limit() -> None:
    any_drive(seed=0, steps=6_000)


@fast
@given(st.integers(0, 2**32), st.integers(1, 25))
def test_no_short_history_of_faults_breaks_a_limit(seed: int, steps: int) -> None:
    any_drive(seed, steps)


@pytest.mark.slow
def test_a_million_steps_of_faults_break_no_limit() -> None:
    for seed in range(20):
        any_drive(seed, steps=50_000)


# ---------------------------------------------------------------- the pilot


@pytest.fixture
def agent(model: WorldModel, tiny: Config) -> Agent:
    return agent_of(tiny, model)


def images(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def by_hand(agent: Agent, seen: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The actions of a loop without a controller; the robot halves each action."""
    belief, action = agent.initial(), agent.no_action()
    plan: Plan | None = None
    actions = []
    for number, image in enumerate(seen):
        belief = agent.observe(belief, action, image)
        plan = agent.plan(belief, previous=plan, seed=number)
        actions.append(plan.first)
        action = plan.first / 2
    return np.stack(actions)


def drive(controller: Controller, seen: NDArray[np.uint8]) -> NDArray[np.float32]:
    actions: list[NDArray[np.float32]] = []
    for image in seen:
        executed = actions[-1] / 2 if actions else None
        actions.append(controller.step(image, executed))
    return np.stack(actions)


def free(agent: Any, rate_hz: float = 10.0, **given: Any) -> Controller:
    """A controller whose limits never change an action."""
    about = {"low": [-1, -1], "high": [1, 1], "max_change": math.inf, "max_age_s": 100.0, **given}
    return Controller(agent, rate_hz, **about)


def test_with_a_planner_in_time_actions_equal_a_loop_written_by_hand(agent: Agent) -> None:
    seen = images(0, 6)
    with free(InlineWorker(agent)) as controller:
        np.testing.assert_allclose(drive(controller, seen), by_hand(agent, seen), atol=1e-5)
        assert controller.state == "plan"


def test_with_vectors_actions_equal_a_loop_written_by_hand(tiny: Config) -> None:
    agent = agent_of(
        tiny, build(tiny.model, Spec((16, 16, 3), A, vectors={"joints": 3, "torque": 1}))
    )
    random = np.random.default_rng(0)
    seen = [
        {"image": image, "joints": random.standard_normal(3), "torque": [number]}
        for number, image in enumerate(images(0, 4))
    ]
    belief, action, plan = agent.initial(), agent.no_action(), None
    with free(InlineWorker(agent)) as controller:
        for number, each in enumerate(seen):
            belief = agent.observe(belief, action, each)
            plan = agent.plan(belief, previous=plan, seed=number)
            action = plan.first
            np.testing.assert_allclose(controller.step(each), action, atol=1e-5)


def test_an_agent_with_choices_is_refused(tiny: Config) -> None:
    agent = agent_of(tiny, build(tiny.model, Spec((16, 16, 3), 3, has_choices=True)))
    with pytest.raises(ValueError, match="agent: its actions are one of 3 choices, which have no"):
        InlineWorker(agent)


def test_the_search_keeps_the_change_that_the_guard_allows(agent: Agent) -> None:
    """The plan is sent to the motor without a change by the guard."""
    guard = Guard(LOW, HIGH, CHANGE)
    limits = guard.limits(guard.inside(np.zeros(A)))
    searches: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    class Listening(InlineWorker):
        def hand_over(self, row: Row) -> None:
            super().hand_over(row)
            plan = self._answers[-1].actions
            assert plan is not None
            last = guard.to_agent(guard.inside(np.zeros(A))) if row.action is None else row.action
            searches.append((last, plan))

    def wild(latents: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return 1e3 * actions[..., 0] * torch.tensor([1.0, -1.0, 1.0, -1.0])

    class Wild(Agent):
        def plan(self, *given, **settings):  # type: ignore[no-untyped-def]
            return super().plan(*given, **settings | {"score": wild})

    allowed = 2 * CHANGE / (HIGH - LOW)
    with Controller(
        Listening(Wild(*parts_of(agent)), limits), 10, LOW, HIGH, CHANGE, max_age_s=100.0
    ) as controller:
        for image in images(7, 4):
            action = controller.step(image)
            last, plan = searches[-1]
            rows = np.concatenate([last[None], plan]).astype(np.float64)
            assert (np.abs(np.diff(rows, axis=0)) <= allowed).all()
            np.testing.assert_allclose(action, guard.to_motor(plan[0]), atol=1e-5)
    assert (
        np.abs(np.diff(rows, axis=0))[:, 0].max() > 0.9 * allowed[0]
    )  # the search reaches the limit


def test_a_max_change_of_the_whole_range_does_not_limit_the_search() -> None:
    assert Guard([0.0], [2.0], 2.0).limits(np.zeros(1, np.float32)) is None
    limits = Guard([0.0, 0.0], [2.0, 8.0], 1.0).limits(np.float32([0.5, 8.0]))
    assert limits is not None
    np.testing.assert_allclose(np.asarray(limits.max_change), [1.0, 0.25])
    np.testing.assert_allclose(np.asarray(limits.last), [-0.5, 1.0])


def test_rows_at_once_give_the_belief_of_rows_one_by_one(agent: Agent) -> None:
    seen = images(1, 4)
    action = np.array([0.3, -0.6], np.float32)
    rows = [Row(n, action if n else None, image) for n, image in enumerate(seen)]
    once = Pilot(agent).consume(rows).actions
    belief = agent.initial()
    for row in rows:
        action = agent.no_action() if row.action is None else row.action
        belief = agent.observe(belief, action, row.image)  # type: ignore[arg-type]
    np.testing.assert_array_equal(once, agent.plan(belief, seed=3).actions)


def test_a_row_without_an_image_is_imagined(agent: Agent) -> None:
    first, last = images(2, 2)
    action = np.array([0.3, -0.6], np.float32)
    pilot = Pilot(agent)
    assert pilot.consume([Row(0, None, first), Row(1, action, None)]).actions is None
    pilot.consume([Row(2, action, last)])
    belief = agent.observe(agent.initial(), agent.no_action(), first)
    dynamics, done = agent.model.dynamics, torch.as_tensor(action)[None]
    imagined = at(dynamics.imagine(dynamics.remember(at(belief, None), done), None), 0)
    believed = pilot._belief.features  # type: ignore[union-attr]
    torch.testing.assert_close(believed, agent.observe(imagined, action, last).features)
    skipped = agent.observe(belief, action, last).features
    assert (believed - skipped).abs().max() > 1e-3


def test_a_row_that_begins_starts_a_new_belief(agent: Agent) -> None:
    first, last = images(3, 2)
    pilot = Pilot(agent)
    pilot.consume([Row(0, None, first)])
    answer = pilot.consume([Row(1, None, last, begins=True)])
    np.testing.assert_array_equal(
        answer.actions, Pilot(agent).consume([Row(1, None, last)]).actions
    )


def test_the_last_plan_is_shifted_by_all_rows_since(agent: Agent) -> None:
    previous = []

    class Listening(Agent):
        def plan(self, belief, previous=None, **given):  # type: ignore[no-untyped-def]
            received.append(previous)
            return super().plan(belief, previous=previous, **given)

    received: list[Plan | None] = []
    pilot = Pilot(Listening(*parts_of(agent)))
    rows = [Row(number, None, image) for number, image in enumerate(images(4, 9))]
    previous.append(pilot.consume(rows[:1]).actions)
    previous.append(pilot.consume(rows[1:2]).actions)
    pilot.consume(rows[2:5])
    pilot.consume(rows[5:9])
    assert received[0] is None
    assert received[3] is None  # four rows of four: nothing is left
    assert received[1] is not None
    assert received[2] is not None
    np.testing.assert_array_equal(received[1].actions, previous[0])
    np.testing.assert_array_equal(received[2].actions, previous[1][2:])  # type: ignore[index]


def test_a_belief_that_is_not_finite_is_dropped(agent: Agent) -> None:
    pilot = Pilot(agent)
    rows = [Row(number, None, image) for number, image in enumerate(images(5, 3))]
    pilot.consume(rows[:1])
    for part in (leaves(pilot._belief)["deter"], pilot._plan.actions):  # type: ignore[union-attr]
        part.fill_(math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pilot.consume(rows[1:2])
    answer = pilot.consume(rows[2:])
    assert answer.actions is not None
    assert np.isfinite(answer.actions).all()


# ---------------------------------------------------------------- a process of its own


class Moody(Agent):
    """An agent whose planning process fails; the image's first byte chooses how."""

    def observe(self, belief, action, image):  # type: ignore[no-untyped-def]
        self.mood = int(image[0, 0, 0])
        return super().observe(belief, action, image)

    def plan(self, *given, **settings):  # type: ignore[no-untyped-def]
        plan = super().plan(*given, **settings)
        if self.mood == MOODS.index("raises"):
            raise ZeroDivisionError("by a planner")
        if self.mood == MOODS.index("nan"):
            plan.actions.fill_(math.nan)
        if self.mood == MOODS.index("exits"):
            os._exit(7)
        if self.mood == MOODS.index("hangs"):
            ctypes.PyDLL(None).sleep(1000)  # in C, holding the interpreter lock
        if self.mood == MOODS.index("loops"):
            while True:
                time.sleep(0.01)
        return plan


MOODS = ["good", "raises", "nan", "exits", "hangs", "loops"]
COUNTED = {
    "raises": "planner_error",
    "nan": "bad_plan",
    "exits": "died",
    "hangs": "hung",
    "loops": "hung",
}


def moody() -> Agent:
    torch.manual_seed(0)
    config = read(Config(), TINY)
    model = build(config.model, Spec((16, 16, 3), A))
    return Moody(model, config.planner, config.planning, config.discount_rate)


def moody_image(mood: str, random: np.random.Generator) -> NDArray[np.uint8]:
    image = random.integers(0, 256, SHAPE, np.uint8)
    image[0, 0, 0] = MOODS.index(mood)
    return image


class Drive:
    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.random = np.random.default_rng(0)
        self.seconds: list[float] = []
        self.states: list[str] = []
        self.last = controller.guard.inside(np.zeros(A))

    def until(self, reached: Callable[[], bool], mood: str) -> None:
        begun = time.monotonic()
        while not reached():
            assert time.monotonic() - begun < LIMIT_S, (mood, self.controller.counts, self.states)
            entered = time.perf_counter()
            action = self.controller.step(moody_image(mood, self.random))
            self.seconds.append(time.perf_counter() - entered)
            self.states.append(self.controller.state)
            assert_allowed(self.controller.guard, action, self.last, None)
            self.last = action
            time.sleep(0.05)

    def until_it_plans(self) -> None:
        def is_planning() -> bool:
            self.controller.arm()
            return self.states[-1:] in (["plan"], ["shifted"])

        self.states.clear()
        self.until(is_planning, "good")


@pytest.fixture(scope="module")
def driven() -> Iterator[Drive]:
    with Controller(moody, 10, LOW, HIGH, CHANGE, max_age_s=1.0) as controller:
        yield Drive(controller)


@pytest.mark.parametrize(
    "mood",
    [
        pytest.param(mood, marks=pytest.mark.slow if mood == "loops" else ())  # as it hangs
        for mood in MOODS[1:]
    ],
)
def test_with_a_broken_planner_the_levels_go_down_to_stop_and_up_again(
    mood: str, driven: Drive
) -> None:
    controller = driven.controller
    driven.until_it_plans()
    before = controller.counts
    driven.seconds.clear()
    driven.states.clear()
    driven.until(lambda: controller.state == "stop", mood)
    levels = [level for level, _ in itertools.groupby(driven.states)]
    assert levels[-2:] == ["hold", "stop"]
    assert max(driven.seconds) < 5.0  # the planner hangs for a thousand seconds
    driven.until(lambda: controller.counts[COUNTED[mood]] > before[COUNTED[mood]], mood)
    driven.until_it_plans()
    restarts = controller.counts["restarted"] - before["restarted"]
    assert restarts > 0 or mood in ("raises", "nan")  # these do not end the process
    if mood == "raises":
        assert controller.last_error == "ZeroDivisionError: by a planner"
    assert controller.counts["own_error"] == 0


def test_an_agent_that_has_planned_can_be_copied_to_a_process(agent: Agent) -> None:
    belief = agent.initial()
    expected = agent.plan(belief).actions
    for copied in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert torch.equal(copied.plan(belief).actions, expected)
        assert copied.model is not agent.model
        assert copied._fast.model is copied.model


def test_a_process_plans_the_same_as_this_one(agent: Agent) -> None:
    seen = images(6, 4)
    expected = by_hand(agent, seen)
    with free(agent, rate_hz=0.05) as controller:  # so slow that no search is cut short
        with torch.no_grad():  # the process keeps the weights of its start
            for parameter in agent.model.parameters():
                parameter.fill_(math.nan)
        actions = drive(controller, seen)
        assert controller.counts["plan"] == 4
        assert controller.counts["died"] == 0
    np.testing.assert_allclose(actions, expected, atol=1e-5)


def raising() -> Agent:
    raise LookupError("no such weights")


def never() -> Agent:
    time.sleep(1000)
    raise AssertionError


def leaving() -> Agent:
    os._exit(3)


def test_a_planner_that_never_begins_is_an_error_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match=r"planner: its process did not begin: .*no such weigh"):
        free(raising)
    with pytest.raises(RuntimeError, match="it ended with exit code 3; is the script guarded"):
        free(leaving)
    with pytest.raises(RuntimeError, match=r"did not begin: no sign of it in 0.3 s"):
        free(never, start_s=0.3)
    with pytest.raises(RuntimeError, match=r"did not begin: .*lambda"):
        free(lambda: moody())


def test_broken_weights_are_refused_before_anything_moves(agent: Agent) -> None:
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(RuntimeError, match="belief: expected finite numbers, as broken weights"):
        InlineWorker(agent)


def test_rows_that_waited_too_long_are_dropped_and_the_belief_begins_anew() -> None:
    worker = ProcessWorker(
        functools.partial(moody), deadline_ms=None, patience_s=1e9, start_s=600, most_rows=3
    )
    try:
        random = np.random.default_rng(0)
        worker.hand_over(Row(0, None, moody_image("loops", random), begins=True))
        begun = time.monotonic()
        while worker._rows:  # until the process has it
            assert time.monotonic() - begun < LIMIT_S
            time.sleep(0.01)
        for number in range(1, 6):
            worker.hand_over(Row(number, np.zeros(A, np.float32), moody_image("good", random)))
        assert worker.answers(5, wait_s=1000.0) == []  # no row waits for an older one
        assert [(row.number, row.begins) for row in worker._rows] == [
            (3, True),
            (4, False),
            (5, False),
        ]
        assert worker.counts["dropped_rows"] == 2
    finally:
        worker.close()
    assert not worker._thread.is_alive()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate_hz": 0}, "rate_hz: expected a number above 0, got 0"),
        ({"rate_hz": "fast"}, "rate_hz: expected a number above 0, got 'fast'"),
        ({"rate_hz": math.nan}, "rate_hz: expected a number above 0, got nan"),
        ({"max_age_s": 0.05}, "max_age_s: expected at least one period, 0.1 s, got 0.05"),
        ({"max_age_s": -1}, "max_age_s: expected a number of seconds above 0, got -1"),
        ({"max_still_s": 0}, "max_still_s: image: expected a number above 0, or inf, got 0"),
        ({"max_still_s": {"image": "1"}}, "max_still_s: image: expected a number above 0, or inf"),
        ({"answer_within": 1.5}, "answer_within: expected a share between 0 and 1, got 1.5"),
        ({"start_s": math.inf}, "start_s: expected a number of seconds above 0, got inf"),
        ({"clock": 3}, "clock: expected a function, got 3"),
        ({"rest": [0.0]}, r"rest: expected \[2\] numbers, got \[0.0\]"),
        ({"rest": [0.0, 9.0]}, r"rest: expected an action inside low and high, got \[0.0, 9.0\]"),
        ({"high": [1.0]}, r"high: expected \[2\] as low, got \[1\]"),
        ({"low": [0.0], "high": [1.0]}, "low: the agent has 2 actions, got 1 number$"),
        ({"agent": "runs/cup"}, "agent: expected an agent, or a function that makes one.*runs/cup"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(given: dict[str, Any], said: str) -> None:
    worker = FakeWorker(Clock())
    about = {"agent": worker, **given}
    with pytest.raises(ValueError, match=said):
        free(**{"max_age_s": 1.0, **about})


@pytest.mark.slow
def test_ten_thousand_steps_with_a_real_planner_break_no_limit() -> None:
    drive_for_real(10_000)


def test_hundreds_of_steps_with_a_real_planner_break_no_limit() -> None:
    drive_for_real(300)


def drive_for_real(steps: int) -> None:
    random = np.random.default_rng(0)
    fault: str | None = None
    # a plan of four rows is too old after four rows: at 50 rows a second a busy machine is too slow
    with Controller(moody, 20, LOW, HIGH, CHANGE, max_age_s=0.5) as controller:
        drive = Drive(controller)
        drive.until_it_plans()
        last = drive.last
        for _ in range(steps):
            if random.random() < 0.1:
                fault = [None, None, None, "no_image", "bad_image"][random.integers(5)]
            mood = MOODS[random.integers(len(MOODS))] if random.random() < 0.002 else "good"
            image = moody_image(mood, random) if fault is None else image_like(random, fault)
            executed, reached = anything(random) if random.random() < 0.5 else (None, None)
            entered = time.perf_counter()
            action = controller.step(image, executed)
            assert time.perf_counter() - entered < LIMIT_S  # a planner that hangs takes 1000 s
            assert_allowed(controller.guard, action, last, reached)
            last = action
            controller.arm()
            time.sleep(0.002)
        assert controller.counts["own_error"] == 0
        assert controller.counts["plan"] + controller.counts["shifted"] > 0


def test_a_planner_without_time_to_search_answers_with_the_policy(
    model: WorldModel, tiny: Config
) -> None:
    agent = agent_of(tiny, model.requires_grad_(False))
    pilot = Pilot(agent, deadline_ms=1000.0)
    row = Row(0, None, np.zeros(agent.model.spec.image, np.uint8))
    agent.timing = PlanTiming(8, slice_s=60.0, proposing_s=60.0)
    answer = pilot.consume([row])
    assert answer.is_finite
    assert answer.actions is not None
    np.testing.assert_allclose(answer.actions[0], agent.act(pilot._belief), atol=1e-5)  # type: ignore[arg-type]
    agent.timing = PlanTiming(8, slice_s=60.0, proposing_s=60.0, following_s=60.0)
    assert pilot.consume([row]).actions is None
    assert pilot._belief is not None


# ---------------------------------------------------------------- before a process begins


class Toy:
    """An actor of numpy: its plan is always 0.1, 0.2, ..."""

    fitting = ImageFit(SHAPE)
    vector_sizes = types.MappingProxyType({})
    has_choices = False
    action_size = 1

    def initial(self) -> float:
        return 0.0

    def no_action(self) -> NDArray[np.float32]:
        return np.zeros(1, np.float32)

    def observe(self, belief: float, action: Any, image: Any) -> float:
        return belief + 1

    def imagine(self, belief: float, action: Any) -> float:
        return belief + 1

    def is_finite(self, belief: float) -> bool:
        return True

    def plan(self, belief: float, previous: Any = None, seed: int = 0, deadline_ms: Any = None,
             *, limits: Any = None) -> Any:  # fmt: skip
        raise AssertionError("never planned here")

    def warm_up(self) -> None:
        raise AssertionError("no process begins")


class Chooser(Toy):
    has_choices, action_size = True, 3


@pytest.mark.parametrize(
    ("actor", "given", "said"),
    [
        (Toy(), {"low": [-2, -2], "high": [2, 2]}, "low: the agent has 1 action, got 2 numbers"),
        (Toy(), {"high": [1, 1]}, r"high: expected \[1\] as low, got \[2\]"),
        (Toy(), {"max_change": [1, 1]}, r"max_change: expected one number or \[1\], got \[2\]"),
        (Toy(), {"rate_hz": -20}, "rate_hz: expected a number above 0, got -20"),
        (Chooser(), {}, "agent: its actions are one of 3 choices, which have no low"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_process_begins(
    actor: Any, given: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldmodel.robot.controller.ProcessWorker", None)
    about = {"rate_hz": 10.0, "low": [-1], "high": [1], "max_change": 1.0, "max_age_s": 1.0}
    with pytest.raises(ValueError, match=f"^{said}"):
        Controller(actor, **{**about, **given})


def test_a_process_whose_agent_does_not_fit_says_the_same_sentence() -> None:
    with pytest.raises(ValueError, match=r"^low: the agent has 1 action, got 2 numbers$"):
        Controller(Toy, 10, [-2, -2], [2, 2], 0.2, max_age_s=1.0)


# ---------------------------------------------------------------- the black box


def test_the_steps_before_a_stop_are_written_and_read(tmp_path: Path) -> None:
    bench = Bench(black_box=tmp_path / "boxes")
    bench.step(executed=[0.5, 0.25])
    bench.step(image=None)
    while bench.controller.state != "stop":
        bench.step(image=np.zeros((2, 2), np.uint8))
    bench.step()
    bench.controller.close()
    assert bench.controller.counts["boxes_written"] == 1
    assert bench.controller.counts["boxes_failed"] == 0
    (path,) = (tmp_path / "boxes").iterdir()
    read = read_black_box(path)
    assert read.level[[0, 1, -1]].tolist() == ["plan", "shifted", "stop"]
    assert (read.level == "stop").sum() == 1  # written at the first step of the stop
    assert read.fault[:3].tolist() == ["", "no_image", "bad_image"]
    assert read.has_image.tolist() == [True] + [False] * (len(read) - 1)
    assert read.image.shape == (len(read), *SHAPE)
    again = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    assert np.array_equal(read.image[0], again)
    assert read.executed[0].tolist() == [0.5, 0.25]
    assert np.isnan(read.executed[1:]).all()
    np.testing.assert_allclose(np.diff(read.seconds), 0.1)
    np.testing.assert_allclose(read.action[1], [0.01, 0.01])
    assert (read.about["rate_hz"], read.about["low"]) == (10.0, [-1.0, -1.0])
    assert read.about["counts"]["bad_image"] == len(read) - 2
    assert str(read).splitlines()[-1].split()[:2] == ["0.00", "stop"]
    assert repr(bench.controller) == f"Controller(10 Hz, 2 motors, stop, {len(read) + 1} steps, {len(read) - 1} faults)"  # fmt: skip  # noqa: E501


def test_a_black_box_is_bounded_and_can_be_saved_at_any_time(tmp_path: Path) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="black box: expected at least one step, got none yet"):
        bench.controller.save_black_box(tmp_path / "box.npz")
    for _ in range(620):
        bench.step()
    read = read_black_box(bench.controller.save_black_box(tmp_path / "box.npz"))
    assert len(read) == 600  # a minute at 10 Hz
    assert [path.name for path in tmp_path.iterdir()] == ["box.npz"]
    large = BlackBox((480, 640, 3), rate_hz=1000, folder=None)
    row = StepRow(0.0, "plan", "", np.zeros((480, 640, 3), np.uint8), None, np.zeros(1), "", 0, "")
    for _ in range(3):
        large.keep(row)
    assert read_black_box(large.save(tmp_path / "large.npz", {})).image.shape == (3, 48, 64, 3)
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"other\.npz: expected a file of a black box"):
        read_black_box(tmp_path / "other.npz")


def test_a_disk_that_refuses_a_black_box_is_counted_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError("no space left on device")

    bench = Bench(black_box=tmp_path)
    monkeypatch.setattr("worldmodel.robot.black_box.files.replacing", full)
    bench.step()
    while bench.controller.state != "stop":
        bench.step(image=None)
    bench.controller.close()
    assert bench.controller.counts["boxes_failed"] == 1
    assert bench.controller.counts["own_error"] == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"black_box: cannot write to .*; give another folder"):
        Bench(black_box=tmp_path / "file")
