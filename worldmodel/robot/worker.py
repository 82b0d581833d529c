"""The planner beside the control loop: rows go over, plans come back, nobody waits too long.

``Mind`` keeps belief and plan and consumes rows in order. ``ProcessWorker`` runs one in a process
of its own; ``InlineWorker`` runs one in this process, for simulations and tests.

Every call of the controller is one row: the action that was done, and the image that came back.
Rows that arrive while the planner searches wait in order, and all of them are consumed before the
next search, so the belief misses nothing. A row whose image cannot be believed keeps its action:
there the belief *imagines*. When more rows wait than may be (a planner that is too slow, or a new
process), the oldest are dropped and the belief begins anew at the first that is left: a belief
never continues over a gap.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel import processes
from worldmodel.agent import Agent
from worldmodel.machine import cores
from worldmodel.planners import Limits
from worldmodel.structs import Latent, Plan, Step, at

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0  # before a process that failed is replaced; doubling


@dataclass(frozen=True)
class Row:
    """What the worker is told at each step, in the agent's units."""

    number: int  # of the controller's step
    action: NDArray[np.float32] | None  # [A] that led here; None before the first
    image: NDArray[np.uint8] | None  # [H, W, C]; None where none can be believed
    begins: bool = False  # nothing before this row is known to the belief
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [V]

    @property
    def observation(self) -> NDArray[np.uint8] | dict[str, NDArray[Any]] | None:
        """What ``agent.observe`` takes: the image, alone or with the vectors beside it."""
        return None if self.image is None else Step(self.image, vectors=self.vectors).observation


@dataclass(frozen=True)
class Answer:
    """What the worker says after it has consumed rows."""

    number: int  # of the newest row that it knew
    actions: NDArray[np.float32] | None  # [L, A] from that row on; None: there is no new plan
    value: float = 0.0  # not finite where no candidate's return is: broken weights
    error: str | None = None  # of the planner

    @property
    def is_finite(self) -> bool:
        actions = () if self.actions is None else self.actions
        return bool(np.isfinite(self.value) and np.isfinite(actions).all())


@runtime_checkable
class Worker(Protocol):
    """What the controller talks to. Neither verb may take long, or wait longer than it is told."""

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def vector_sizes(self) -> Mapping[str, int]: ...

    @property
    def action_size(self) -> int: ...

    @property
    def counts(self) -> dict[str, int]: ...

    def hand_over(self, row: Row) -> None: ...

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        """All that came since the last call; wait at most so long for the one to that row."""
        ...

    def close(self) -> None: ...


class Mind:
    """An agent with its belief and its plan, one row after the other.

    ``limits`` hold inside the search. Their change is counted from the newest row's action, or
    where that is unknown from their own ``last``.
    """

    def __init__(
        self, agent: Agent, deadline_ms: float | None = None, limits: Limits | None = None
    ) -> None:
        if agent.model.spec.has_choices:
            raise ValueError(
                f"agent: its actions are one of {agent.model.spec.action_size} choices, which have"
                " no low, high or max_change; a Controller is for motors, so call"
                " agent.plan(belief, deadline_ms=...) in a loop of your own"
            )
        self.agent = agent
        self.deadline_ms = deadline_ms  # of a whole answer; the search gets what observing leaves
        self.limits = limits
        self._belief: Latent | None = None
        self._plan: Plan | None = None
        self._rows_since_plan = 0

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.agent.model.spec.image)

    @property
    def vector_sizes(self) -> dict[str, int]:
        return dict(self.agent.model.spec.vectors)

    @property
    def action_size(self) -> int:
        return int(self.agent.no_action().shape[-1])

    def consume(self, rows: Sequence[Row]) -> Answer:
        """Believe every row, then plan if the newest brought an image. Never raises."""
        begun = time.perf_counter()
        number = rows[-1].number
        try:
            for row in rows:
                self._believe(row)
            if self._belief is None or rows[-1].image is None:
                return Answer(number, None)
            if not torch.isfinite(self._belief.features).all():
                raise ValueError("belief: expected finite numbers, as broken weights do not give")
            left = None
            if self.deadline_ms is not None:
                left = max(0.0, self.deadline_ms - (time.perf_counter() - begun) * 1e3)
            plan = self.agent.plan(
                self._belief,
                previous=self._shifted(),
                seed=number,
                deadline_ms=left,
                limits=self._limits_after(rows[-1].action),
            )
            if plan.origin == "previous":  # no time to choose at all: the last plan is the last
                return Answer(number, None)
            actions = plan.actions.detach().cpu().numpy().astype(np.float32)
            value = float(plan.value) if plan.origin == "search" else 0.0  # a policy names none
            answer = Answer(number, actions, value)
        except Exception as error:  # whatever the planner throws; the controller counts it
            self._forget()
            return Answer(number, None, error=f"{type(error).__name__}: {error}")
        self._plan = plan
        self._rows_since_plan = 0
        if not answer.is_finite:
            self._forget()  # neither this plan nor perhaps the belief may live on
        return answer

    def warm_up(self) -> None:
        """The first calls are slow: make them before anybody waits. Raises what the agent does."""
        deadline_ms, self.deadline_ms = self.deadline_ms, None
        still = {name: np.zeros(size, np.float32) for name, size in self.vector_sizes.items()}
        row = Row(0, None, np.zeros(self.image_shape, np.uint8), vectors=still)
        for _ in range(2):
            answer = self.consume([row])
            if answer.error is not None:
                raise RuntimeError(answer.error)
            if answer.actions is None or not answer.is_finite:
                raise RuntimeError("plan: expected finite numbers, as broken weights do not give")
        self._forget()
        self.agent.warm_up()
        self.deadline_ms = deadline_ms

    def _limits_after(self, action: NDArray[np.float32] | None) -> Limits | None:
        limits = self.limits
        return limits if limits is None or action is None else limits.after(action)

    def _believe(self, row: Row) -> None:
        if row.begins:
            self._forget()
        self._rows_since_plan += 1
        action = self.agent.no_action() if row.action is None else row.action
        observation = row.observation
        if observation is not None:
            belief = self.agent.initial() if self._belief is None else self._belief
            self._belief = self.agent.observe(belief, action, observation)
        elif self._belief is not None:
            self._belief = self._imagine(self._belief, action)

    @torch.no_grad()
    def _imagine(self, belief: Latent, action: NDArray[np.float32]) -> Latent:
        actions = torch.as_tensor(action, device=self.agent.device)[None, None]  # [1, 1, A]
        ahead = self.agent.model.imagine(at(belief, None), actions, None)
        return at(ahead, (0, 0))

    def _shifted(self) -> Plan | None:
        """The last plan as it was one row ago: the agent shifts by one row itself."""
        plan = self._plan
        if plan is None or self._rows_since_plan >= len(plan.actions):
            return None
        missed = self._rows_since_plan - 1
        return replace(plan, actions=plan.actions[missed:], elites=plan.elites[:, missed:])

    def _forget(self) -> None:
        self._belief = self._plan = None
        self._rows_since_plan = 0


class InlineWorker:
    """Plans in this process, inside ``hand_over``: a planner that hangs here hangs the caller."""

    def __init__(self, agent: Agent, limits: Limits | None = None) -> None:
        self._mind = Mind(agent, limits=limits)
        self._mind.warm_up()
        self._answers: list[Answer] = []

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._mind.image_shape

    @property
    def vector_sizes(self) -> dict[str, int]:
        return self._mind.vector_sizes

    @property
    def action_size(self) -> int:
        return self._mind.action_size

    @property
    def counts(self) -> dict[str, int]:
        return {}

    def hand_over(self, row: Row) -> None:
        self._answers.append(self._mind.consume([row]))

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Hello:
    """The first word of a process that is ready."""

    image_shape: tuple[int, ...]
    vector_sizes: dict[str, int]
    action_size: int


class ProcessWorker:
    """Plans in a process of its own, which is replaced when it dies or does not answer.

    A thread beside the control loop does all that can block: it starts the process, sends rows,
    waits for answers. The control loop itself only appends a row and takes what has come, and it
    kills a process that owes an answer for too long; that wakes the thread wherever it stood.

    ``agent`` is an agent, of which the process gets a copy as it is now, or a function without
    arguments that makes one in the process, as ``functools.partial(worldmodel.load, run)`` does.
    """

    def __init__(
        self,
        agent: Agent | Callable[[], Agent],
        *,
        deadline_ms: float | None,
        patience_s: float,
        start_s: float,
        most_rows: int,
        limits: Limits | None = None,
    ) -> None:
        self._make = partial(_itself, copy.deepcopy(agent)) if isinstance(agent, Agent) else agent
        self._deadline_ms = deadline_ms
        self._limits = limits
        self._patience_s = patience_s  # how long it may owe an answer
        self._start_s = start_s  # how long it may take to begin
        self._most_rows = most_rows
        self._changed = threading.Condition()  # guards all that follows
        self._rows: deque[Row] = deque()
        self._answers: list[Answer] = []
        self._process: BaseProcess | None = None
        self._hello: _Hello | None = None
        self._failure: str | None = None  # of the last process that ended
        self._owed_at = float("inf")  # when the process must have answered
        self._awaited = -1  # the newest row that the process has, while it owes an answer
        self._is_killed = False
        self._is_closed = False
        self._counts = dict.fromkeys(("died", "hung", "restarted", "dropped_rows"), 0)
        self._thread = threading.Thread(target=self._keep, name="worldmodel-planner", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._hello or self._failure, timeout=start_s)
            hello, failure = self._hello, self._failure
        if hello is None:
            self.close()
            raise RuntimeError(
                f"planner: its process did not begin: {failure or f'no sign of it in {start_s} s'}"
            )
        self._about: _Hello = hello

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._about.image_shape

    @property
    def vector_sizes(self) -> dict[str, int]:
        return self._about.vector_sizes

    @property
    def action_size(self) -> int:
        return self._about.action_size

    @property
    def counts(self) -> dict[str, int]:
        with self._changed:
            return dict(self._counts)

    def hand_over(self, row: Row) -> None:
        with self._changed:
            if time.monotonic() > self._owed_at and not self._is_killed:
                self._kill()
                self._counts["hung"] += 1
            self._rows.append(row)
            if len(self._rows) > self._most_rows:
                self._rows.popleft()
                self._counts["dropped_rows"] += 1
                self._rows[0] = replace(self._rows[0], begins=True)
            if self._awaited < 0 and self._hello is not None:
                self._awaited = row.number
                self._changed.notify_all()

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        with self._changed:
            if wait_s > 0:  # only for an answer to this row: one to an older row is no reason
                self._changed.wait_for(lambda: self._awaited != number, timeout=wait_s)
            answers, self._answers = self._answers, []
            return answers

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._kill()
            self._changed.notify_all()
        self._thread.join(timeout=10.0)

    def _kill(self) -> None:
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def _keep(self) -> None:
        """The thread: one process after the other."""
        pause_s = FIRST_PAUSE_S
        while not self._is_closed:
            connection: Connection | None = None
            try:
                connection = self._start()
                self._greet(connection.recv())
                while rows := self._take():
                    connection.send(rows)
                    self._publish(connection.recv())
                    pause_s = FIRST_PAUSE_S
            except Exception as error:  # of whatever kind: this process is of no more use
                failure = f"{type(error).__name__}: {error}" if str(error) else ""
            else:
                failure = "closed"
            if connection is not None:
                connection.close()
            self._bury(failure)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, timeout=pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _start(self) -> Connection:
        process, ours = processes.start(
            _work, self._make, self._deadline_ms, self._limits, name="worldmodel-planner"
        )
        with self._changed:
            self._process = process
            self._is_killed = False
            self._owed_at = time.monotonic() + self._start_s
            if self._is_closed:
                self._kill()
        return ours

    def _greet(self, hello: _Hello | str) -> None:
        if isinstance(hello, str):
            raise RuntimeError(hello)
        with self._changed:
            self._hello = hello
            self._owed_at = float("inf")
            self._changed.notify_all()

    def _take(self) -> list[Row]:
        """All rows that wait, when there are some; none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._is_closed)
            if self._is_closed:
                return []
            rows = list(self._rows)
            self._rows.clear()
            self._awaited = rows[-1].number
            self._owed_at = time.monotonic() + self._patience_s
            return rows

    def _publish(self, answer: Answer) -> None:
        with self._changed:
            self._answers.append(answer)
            del self._answers[: -self._most_rows]  # nobody asks any more
            self._awaited = -1
            self._owed_at = float("inf")
            self._changed.notify_all()

    def _bury(self, failure: str) -> None:
        with self._changed:
            process, self._process = self._process, None  # from here on nobody can kill it
            is_ours, self._is_killed = self._is_killed, False
            self._hello = None
            self._awaited = -1
            self._owed_at = float("inf")
            self._changed.notify_all()
        code: int | None = None
        if process is not None:
            code = processes.stop(process)
            if code is not None:
                process.close()
        with self._changed:
            self._failure = failure or (
                f"it ended with exit code {code}; is the script guarded by"
                " if __name__ == '__main__'?"
            )
            if not self._is_closed:
                self._counts["died"] += not is_ours
                self._counts["restarted"] += 1
            self._changed.notify_all()


def _itself(agent: Agent) -> Agent:
    return agent


def _work(
    connection: Connection,
    make: Callable[[], Agent],
    deadline_ms: float | None,
    limits: Limits | None,
) -> None:
    """The planning process: until the other side hangs up."""
    torch.set_num_threads(max(1, cores() - 1))  # one core is the loop's
    try:
        try:
            mind = Mind(make(), deadline_ms, limits)
            mind.warm_up()
            hello = _Hello(mind.image_shape, mind.vector_sizes, mind.action_size)
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")
            return
        connection.send(hello)
        while True:
            connection.send(mind.consume(connection.recv()))
    except (EOFError, OSError):
        return
