"""The controller: it answers every step with an action, even if camera or planner fail."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldmodel.origin import counted
from worldmodel.robot.actor import Actor, refuse_choices
from worldmodel.robot.black_box import BlackBox, StepRow
from worldmodel.robot.clock import Clock
from worldmodel.robot.followed_plan import FollowedPlan
from worldmodel.robot.guard import Guard
from worldmodel.robot.input_check import FAULTS, CheckedInput, InputCheck
from worldmodel.robot.levels import LEVELS, Level, Levels
from worldmodel.robot.limits import ControllerLimits, check_between
from worldmodel.robot.messages import Answer, Row, Worker
from worldmodel.robot.process import ProcessWorker

EVENTS = ("bad_executed", "bad_plan", "planner_error", "own_error", "clock_back")
LEAST_PATIENCE_S = 2.0  # replacing a process takes longer than waiting for a slow answer
PLANNING = 0.7  # share of the time that step may take; the rest is for sending both ways


class Controller:
    """Runs an agent as the controller of a motor.

    ::

        with Controller(agent, rate_hz=20, low=[-2, -2], high=[2, 2], max_change=0.2,
                        max_age_s=0.5) as controller:
            executed = None
            while True:
                executed = robot.execute(controller.step(camera(), executed))
                wait_for_the_next_period()

    ``step`` never raises, and answers within a share of the period. Its action is finite float32
    [A], between ``low`` and ``high``, and no further than ``max_change`` from ``executed``, or
    from the last action if ``executed`` is not given. These are in the motor's units; the agent's
    [-1, 1] is scaled linearly to low and high. ``Guard`` says which limit wins when they contradict
    each other.

    The planner works in a process of its own. Each step takes the first level that is possible:

    1. ``plan``: the first action of the plan that was made from this image.
    2. ``shifted``: the action that an earlier plan has for this step, while the image it was made
       from is no older than ``max_age_s``.
    3. ``hold``: the last action again, for at most ``max_age_s``.
    4. ``stop``: move to the ``rest`` action and stay there until ``arm()`` is called.

    So a motor acts on old images for at most twice ``max_age_s``. The search knows ``max_change``
    too: it looks for the best plan among those that the guard does not change.

    ``state`` is the level of the last step, ``last_error`` the last error of the planner.
    ``counts`` has a number for each level; for images (``no_image``, ``bad_image``,
    ``frozen_image``, ``late_image``) and vectors (``bad_vector``, ``frozen_vector``); for other
    faults (``bad_executed``, ``bad_plan``, ``planner_error``, ``own_error``, ``clock_back``); and
    for the planning process (``died``, ``hung``, ``restarted``, ``dropped_rows``). A stopped
    controller still observes and plans, so that it is ready when it is armed.

    agent: an agent, the ``Runner`` of an exported one, a function without arguments that makes one
        (``functools.partial(worldmodel.load, run)``; the planning process calls it), or a
        ``Worker``, for tests.
    max_change: of the action in one step; one number, or one for each motor.
    rest: the action of ``stop``, and of the motor before the first step; by default zero, or the
        nearest action between low and high.
    max_still_s: how long an image may repeat byte for byte before it counts as frozen: by default
        ``max_age_s``; ``math.inf`` for a simulator, whose images may really repeat. With names for
        vectors too, as ``{"image": 0.5, "joints": 2.0}``: a vector that is not named may repeat,
        as the joint angles of a robot at rest do.
    answer_within: the share of the period that ``step`` may wait for the plan of its image.
    start_s: how long the planning process may take to begin. The constructor waits for it.
    black_box: a folder for the last minute before each stop, written by a thread of its own.
        Without it the minute is kept in memory alone, for ``save_black_box``.
    clock: seconds, on the same clock as ``taken_at``. A step back of the clock is counted
        (``clock_back``): one period is assumed to have passed, and the belief begins again.
    """

    def __init__(
        self,
        agent: Actor | Callable[[], Actor] | Worker,
        rate_hz: float,
        low: ArrayLike,
        high: ArrayLike,
        max_change: float | Sequence[float] | ArrayLike,
        max_age_s: float,
        *,
        rest: ArrayLike | None = None,
        max_still_s: float | Mapping[str, float] | None = None,
        answer_within: float = 0.5,
        start_s: float = 60.0,
        black_box: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = ControllerLimits.checked(
            rate_hz, Guard(low, high, max_change), rest, max_age_s, max_still_s, answer_within
        )
        _check_start(start_s, clock)
        self.guard, self._rest = limits.guard, limits.rest
        self.max_age_s, self.answer_s = limits.max_age_s, limits.answer_s
        self._clock = Clock(clock, limits.period_s)
        self._worker = _worker_of(agent, limits, start_s)
        try:
            still_s = limits.still_s_for(self._worker)
            self._black_box = BlackBox(self._worker.fitting.image, limits.rate_hz, black_box)
        except ValueError:
            self._worker.close()
            raise
        self._input_check = InputCheck(
            self._worker.fitting,
            self._worker.vector_sizes,
            self.max_age_s,
            still_s,
            max_early_s=limits.period_s,
        )
        self._state: Level = "hold"
        self._counts = dict.fromkeys((*LEVELS, *FAULTS, *EVENTS), 0)
        self._last_error: str | None = None
        self._last_fault: str | None = None
        self._last = self._rest  # the last action
        self._limits = limits
        self._answer: Answer | None = None  # the newest that arrived in this step
        self._number = 0  # of the step
        self._stepped_at: float | None = None
        self._has_gap = False  # steps before the next row are missing from the belief
        self._followed = FollowedPlan(self.guard.action_size, self.max_age_s)
        self._levels = Levels(self._followed, self.max_age_s)

    def __repr__(self) -> str:
        faults = sum(self._counts[name] for name in (*FAULTS, *EVENTS))
        return (
            f"Controller({self._limits.rate_hz:g} Hz, {counted(self.guard.action_size, 'motor')},"
            f" {self._state}, {counted(self._number, 'step')}, {counted(faults, 'fault')})"
        )

    @property
    def state(self) -> Level:
        """The level of the last step; ``hold`` before the first."""
        return self._state

    @property
    def is_armed(self) -> bool:
        return self._levels.is_armed

    @property
    def counts(self) -> dict[str, int]:
        """Steps by level, faults by kind, events of the planning process, black boxes."""
        return {**self._counts, **self._worker.counts, **self._black_box.counts}

    @property
    def last_fault(self) -> str | None:
        """What was wrong with the last image that could not be fitted, and what to type."""
        return self._last_fault

    @property
    def last_error(self) -> str | None:
        return self._last_error

    def arm(self) -> None:
        """Leave ``stop``. If the cause persists, the controller holds and then stops again."""
        self._levels.arm()

    def step(
        self, image: object, executed: object = None, taken_at: object = None
    ) -> NDArray[np.float32]:
        """[A] the motor's next action, in its own units.

        ``image`` uint8 [H, W, C], or None if the camera has no new one; one of another shape is
        fitted as in training. An agent that learned from vectors too takes ``{"image": image,
        "joints": [V], ...}``, and one of several cameras their images by name: all or none of it.
        ``executed`` [A]: what the motor did since the last step; None: exactly the last action.
        ``taken_at``: when the image was taken; None: just now.
        """
        reached = self.guard.read(executed)
        level: Level
        desired: NDArray[np.floating]
        now, checked, self._answer = math.nan, None, None
        try:
            if executed is not None and reached is None:
                self._counts["bad_executed"] += 1
            now = self._tick()
            checked = self._input_check.check(image, self._clock.time_of(taken_at), now)
            self._exchange(checked, reached, now)
            level, desired = self._choose(now)
        except Exception as error:  # our own error, or the clock's: the motor still needs an action
            self._note("own_error", error)
            self._levels.stop()
            level, desired = "stop", self._rest
        action = self.guard.restrict(desired, self._last, reached)
        self._keep(now, level, checked, reached, action)
        self._last = action
        self._number += 1
        self._counts[level] += 1
        self._state = level
        return action.copy()

    def close(self) -> None:
        """End the planning process. A step after this holds, then stops."""
        self._worker.close()
        self._black_box.close()

    def save_black_box(self, path: str | Path) -> Path:
        """Write the last minute to a file now: images, actions, levels, faults, plans.

        ``worldmodel.robot.read_black_box(path)`` reads it.
        """
        return self._black_box.save(path, self._about())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tick(self) -> float:
        """The time of this step. If the clock stepped back, drop the plan and note a gap."""
        now, stepped_back = self._clock.tick()
        if stepped_back:
            self._counts["clock_back"] += 1
            self._followed.clear()  # its age is unknown
            self._has_gap = True
        return now

    def _exchange(
        self, checked: CheckedInput, reached: NDArray[np.float64] | None, now: float
    ) -> None:
        """Send the row of this step to the planner, and take its answers."""
        if checked.fault is not None:
            self._counts[checked.fault] += 1
            self._last_fault = checked.sentence or self._last_fault
        if checked.image is not None:
            self._followed.note_image(self._number, checked.taken_at)
        self._followed.drop_old_images(now)
        is_first = self._stepped_at is None
        # after so long without a step, no row says what happened meanwhile
        is_late = self._stepped_at is None or now - self._stepped_at > self.max_age_s
        begins, self._has_gap = self._has_gap or is_late, False
        self._stepped_at = now
        action = None
        if reached is not None or not is_first:
            action = self.guard.to_agent(self._last if reached is None else reached)
        try:
            row = Row(self._number, action, checked.image, begins, checked.vectors)
            self._worker.hand_over(row)
            wait_s = 0.0
            if self._levels.is_armed and checked.image is not None:
                left_s = self.answer_s - self._clock.since_tick()
                wait_s = max(0.0, min(self.answer_s, left_s))  # the clock may step back here too
            for answer in self._worker.answers(self._number, wait_s):
                self._take(answer)
        except Exception as error:  # of a worker in this process
            self._note("planner_error", error)

    def _take(self, answer: Answer) -> None:
        if answer.error is not None:
            self._note("planner_error", answer.error)
        if not self._followed.offer(answer):
            self._counts["bad_plan"] += 1
        self._answer = answer

    def _choose(self, now: float) -> tuple[Level, NDArray[np.floating]]:
        """The first level that is possible, and its action in the motor's units."""
        level, action = self._levels.choose(self._number, now)
        if action is not None:
            return level, self.guard.to_motor(action)
        return level, self._last if level == "hold" else self._rest

    def _keep(
        self,
        now: float,
        level: Level,
        checked: CheckedInput | None,
        reached: NDArray[np.float64] | None,
        action: NDArray[np.float32],
    ) -> None:
        """Keep this step in the black box, which is written after the first step of a stop."""
        try:
            row = StepRow.of(now, level, checked, reached, action, self._answer)
            self._black_box.keep(row)
            if level == "stop" and self._state != "stop":
                self._black_box.write_soon(self._about())
        except Exception as error:  # the motor still needs an action
            self._note("own_error", error)

    def _about(self) -> dict[str, Any]:
        """What a black box says besides its rows."""
        return {
            **self._limits.described(),
            "step": self._number,
            "counts": self.counts,
            "last_error": self._last_error,
        }

    def _note(self, event: str, error: Exception | str) -> None:
        self._counts[event] += 1
        message = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._last_error = message


def _check_start(start_s: float, clock: Callable[[], float]) -> None:
    check_between("start_s", start_s, 0.0, math.inf, "a number of seconds above 0")
    if not callable(clock):
        raise ValueError(f"clock: expected a function, got {clock!r}")


def _worker_of(
    agent: Actor | Callable[[], Actor] | Worker, limits: ControllerLimits, start_s: float
) -> Worker:
    if isinstance(agent, Worker):
        return agent
    if isinstance(agent, Actor):  # refuse it before a process begins
        refuse_choices(agent)
        limits.still_s_for(agent)
    elif not callable(agent):
        raise ValueError(
            "agent: expected an agent, or a function that makes one, such as"
            f" functools.partial(worldmodel.load, run); got {agent!r}"
        )
    return ProcessWorker(
        agent,
        deadline_ms=PLANNING * limits.answer_s * 1e3,
        patience_s=max(limits.max_age_s, LEAST_PATIENCE_S),
        start_s=start_s,
        # few enough that catching up takes less than half of the patience, if it is possible at all
        most_rows=max(8, math.ceil(limits.max_age_s * limits.rate_hz / 2)),
        limits=limits.guard.limits(limits.rest),
    )
