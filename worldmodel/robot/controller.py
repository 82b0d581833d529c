"""The controller: an action for the motor at every step, whatever happens to camera and planner."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldmodel.agent import Agent
from worldmodel.robot.clock import Clock
from worldmodel.robot.guard import Guard
from worldmodel.robot.limits import ControllerLimits, check_between
from worldmodel.robot.messages import Answer, Row, Worker
from worldmodel.robot.process import ProcessWorker
from worldmodel.robot.senses import FAULTS, Seen, Senses

Level = Literal["plan", "shifted", "hold", "stop"]
LEVELS: tuple[Level, ...] = ("plan", "shifted", "hold", "stop")
EVENTS = ("bad_executed", "bad_plan", "planner_error", "own_error", "clock_back")
LEAST_PATIENCE_S = 2.0  # a new process takes longer to begin than a slow one needs to answer
PLANNING = 0.7  # of the time that step may take; the rest is for the way there and back


@dataclass(frozen=True)
class _Followed:
    """A plan whose actions may be sent to the motor."""

    number: int  # of the step whose image it was made from
    taken_at: float  # when that image was
    actions: NDArray[np.float32]  # [L, A]


class Controller:
    """Stands between an agent and a motor.

    ::

        with Controller(agent, rate_hz=20, low=[-2, -2], high=[2, 2], max_change=0.2,
                        max_age_s=0.5) as controller:
            executed = None
            while True:
                executed = robot.execute(controller.step(camera(), executed))
                wait_for_the_next_period()

    ``step`` never raises, and answers within a share of the period. Its action is finite float32
    [A], between ``low`` and ``high``, and no further than ``max_change`` from ``executed``, or
    from the last action where nothing is said about what was executed. These are in the motor's
    units; the agent's [-1, 1] lies on low to high in a straight line. ``Guard`` says what holds
    when these limits contradict each other.

    The planner works in a process of its own. Each step takes the first level that it can:

    1. ``plan``: the first action of the plan made from this very image.
    2. ``shifted``: the later action of an earlier plan, which it meant for now, while the image it
       was made from is no older than ``max_age_s``.
    3. ``hold``: the last action again, for at most ``max_age_s``.
    4. ``stop``: to the ``rest`` action and there, until somebody calls ``arm()``.

    The search knows ``max_change`` too: it looks for the best plan among those that the guard lets
    through as they are.

    So a motor moves on old knowledge for at most twice ``max_age_s``. ``state`` is the level of the
    last step, ``last_error`` what the planner threw. ``counts`` has a number for each level; for
    images (``no_image``, ``bad_image``, ``frozen_image``, ``late_image``) and the vectors beside
    them (``bad_vector``, ``frozen_vector``); for the rest that came in or out (``bad_executed``,
    ``bad_plan``, ``planner_error``, ``own_error``, ``clock_back``); and for the planning process
    (``died``, ``hung``, ``restarted``, ``dropped_rows``). A stopped controller goes on watching
    and planning, to be ready.

    agent: an agent, a function without arguments that makes one (``functools.partial
        (worldmodel.load, run)``; the planning process calls it), or a ``Worker``, for tests.
    max_change: of the action in one step; one number, or one for each motor.
    rest: where ``stop`` goes and where the motor is before the first step; zero, or the nearest
        to it between low and high, if not given.
    max_still_s: how long the very same image may come before it counts as frozen: ``max_age_s`` if
        not given, ``math.inf`` for a simulator whose picture may truly stand still. By name for
        vectors too, as ``{"image": 0.5, "joints": 2.0}``: one that is not named may stand still,
        as the counters of a robot at rest do.
    answer_within: the share of the period that ``step`` may wait for the plan of its image.
    start_s: how long the planning process may take to begin. The constructor waits for it.
    clock: seconds; ``taken_at`` of an image is told by the same clock. A step back is counted
        (``clock_back``): it passes for one period, and the belief begins anew without a plan.
    """

    def __init__(
        self,
        agent: Agent | Callable[[], Agent] | Worker,
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
        except ValueError:
            self._worker.close()
            raise
        self._senses = Senses(
            self._worker.image_shape,
            self._worker.vector_sizes,
            self.max_age_s,
            still_s,
            max_early_s=limits.period_s,
        )
        self._state: Level = "hold"
        self._is_armed = True
        self._counts = dict.fromkeys((*LEVELS, *FAULTS, *EVENTS), 0)
        self._last_error: str | None = None
        self._last = self._rest  # what went out
        self._number = 0  # of the step
        self._stepped_at: float | None = None
        self._has_gap = False  # what happened before the next row is not known to the belief
        self._followed_at: float | None = None  # when the action last came from a plan
        self._taken_at: dict[int, float] = {}  # of the images young enough to plan from, by step
        self._plan: _Followed | None = None

    @property
    def state(self) -> Level:
        """The level of the last step; ``hold`` before the first."""
        return self._state

    @property
    def is_armed(self) -> bool:
        return self._is_armed

    @property
    def counts(self) -> dict[str, int]:
        """Steps by level, faults by kind, and what happened to the planning process."""
        return {**self._counts, **self._worker.counts}

    @property
    def last_error(self) -> str | None:
        return self._last_error

    def arm(self) -> None:
        """Leave ``stop``. Where nothing has been mended, it holds and then stops again."""
        if not self._is_armed:
            self._followed_at = None
            self._is_armed = True

    def step(
        self, image: object, executed: object = None, taken_at: object = None
    ) -> NDArray[np.float32]:
        """[A] what the motor shall do now, in its own units.

        ``image`` uint8 [H, W, C], or None where the camera has no new one; an agent that learned
        from vectors too takes ``{"image": image, "joints": [V], ...}``, all or none of it.
        ``executed`` [A]: what the motor did since the last step; None: exactly what it was told.
        ``taken_at``: when the image was taken; None: just now.
        """
        reached = self.guard.read(executed)
        level: Level
        wished: NDArray[np.floating]
        try:
            if executed is not None and reached is None:
                self._counts["bad_executed"] += 1
            now = self._tick()
            seen = self._senses.look(image, self._clock.time_of(taken_at), now)
            self._believe(seen, reached, now)
            level, wished = self._choose(now)
        except Exception as error:  # an error of our own, or of the clock: still, an answer
            self._note("own_error", error)
            self._is_armed = False
            level, wished = "stop", self._rest
        action = self.guard.restrict(wished, self._last, reached)
        self._last = action
        self._number += 1
        self._counts[level] += 1
        self._state = level
        return action.copy()

    def close(self) -> None:
        """End the planning process. A step after this holds, then stops."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tick(self) -> float:
        """Where the clock stepped back, no plan is of a known age and the belief has a gap."""
        now, stepped_back = self._clock.tick()
        if stepped_back:
            self._counts["clock_back"] += 1
            self._plan = None
            self._taken_at.clear()
            self._has_gap = True
        return now

    def _believe(self, seen: Seen, reached: NDArray[np.float64] | None, now: float) -> None:
        """Tell the planner of this step, and hear what it has found."""
        if seen.fault is not None:
            self._counts[seen.fault] += 1
        if seen.image is not None:
            self._taken_at[self._number] = seen.taken_at
        oldest = now - self.max_age_s
        self._taken_at = {n: taken for n, taken in self._taken_at.items() if taken >= oldest}
        is_first = self._stepped_at is None
        # nobody stepped for so long: what happened meanwhile is in no row
        is_late = self._stepped_at is None or now - self._stepped_at > self.max_age_s
        begins, self._has_gap = self._has_gap or is_late, False
        self._stepped_at = now
        action = None
        if reached is not None or not is_first:
            action = self.guard.to_agent(self._last if reached is None else reached)
        try:
            self._worker.hand_over(Row(self._number, action, seen.image, begins, seen.vectors))
            wait_s = 0.0
            if self._is_armed and seen.image is not None:
                left_s = self.answer_s - self._clock.since_tick()
                wait_s = max(0.0, min(self.answer_s, left_s))  # the clock may step back here too
            for answer in self._worker.answers(self._number, wait_s):
                self._hear(answer)
        except Exception as error:  # of a worker in this process
            self._note("planner_error", error)

    def _hear(self, answer: Answer) -> None:
        """Keep the plan if it is one, and newer than the one we have."""
        if answer.error is not None:
            self._note("planner_error", answer.error)
        if answer.actions is None:
            return
        if not self._is_plan(answer):
            self._counts["bad_plan"] += 1
            return
        taken_at = self._taken_at.get(answer.number)
        is_newer = self._plan is None or answer.number > self._plan.number
        if taken_at is not None and is_newer:
            self._plan = _Followed(answer.number, taken_at, answer.actions)

    def _is_plan(self, answer: Answer) -> bool:
        actions: object = answer.actions
        return (
            isinstance(actions, np.ndarray)
            and actions.dtype.kind == "f"
            and actions.ndim == 2
            and actions.shape[0] > 0
            and actions.shape[1] == self.guard.action_size
            and answer.is_finite
        )

    def _choose(self, now: float) -> tuple[Level, NDArray[np.floating]]:
        """The first level that can be taken, and its action in the motor's units."""
        if not self._is_armed:
            return "stop", self._rest
        if self._plan is not None:
            since = self._number - self._plan.number
            is_young = now - self._plan.taken_at <= self.max_age_s
            if is_young and since < len(self._plan.actions):
                self._followed_at = now
                level: Level = "plan" if since == 0 else "shifted"
                return level, self.guard.to_motor(self._plan.actions[since])
        if self._followed_at is None:  # at the start, or just armed
            self._followed_at = now
        if now - self._followed_at <= self.max_age_s:
            return "hold", self._last
        self._is_armed = False
        return "stop", self._rest

    def _note(self, event: str, error: Exception | str) -> None:
        self._counts[event] += 1
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._last_error = said


def _check_start(start_s: float, clock: Callable[[], float]) -> None:
    check_between("start_s", start_s, 0.0, math.inf, "a number of seconds above 0")
    if not callable(clock):
        raise ValueError(f"clock: expected a function, got {clock!r}")


def _worker_of(
    agent: Agent | Callable[[], Agent] | Worker, limits: ControllerLimits, start_s: float
) -> Worker:
    if isinstance(agent, Worker):
        return agent
    if not isinstance(agent, Agent) and not callable(agent):
        raise ValueError(
            "agent: expected an agent, or a function that makes one, such as"
            f" functools.partial(worldmodel.load, run); got {agent!r}"
        )
    return ProcessWorker(
        agent,
        deadline_ms=PLANNING * limits.answer_s * 1e3,
        patience_s=max(limits.max_age_s, LEAST_PATIENCE_S),
        start_s=start_s,
        # to catch up with these takes less than half of the patience, if it can keep up at all
        most_rows=max(8, math.ceil(limits.max_age_s * limits.rate_hz / 2)),
        limits=limits.guard.limits(limits.rest),
    )
