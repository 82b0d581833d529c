"""A pilot in a process of its own, so that the control loop never waits longer than it chooses."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from worldmodel import processes
from worldmodel.images import ImageFit
from worldmodel.limits import Limits
from worldmodel.machine import cores, use_threads
from worldmodel.robot.actor import Actor
from worldmodel.robot.messages import Answer, Row
from worldmodel.robot.pilot import Pilot

# The pause before a failed process is replaced; it doubles with each failure.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0


@dataclass(frozen=True)
class _Ready:
    """The first message of a process: it is ready for rows of these images and sizes."""

    fitting: ImageFit
    vector_sizes: dict[str, int]
    action_size: int


@dataclass(frozen=True)
class _Refused:
    """The only message of a process whose agent does not fit the controller."""

    sentence: str


class ProcessWorker:
    """A worker that plans in a process of its own and replaces it when it dies or hangs.

    A thread does all that can block: it starts the process, sends rows and waits for answers. The
    control loop only appends a row and takes the answers that have arrived, and it kills a process
    whose answer is overdue, which also ends the thread's waiting.

    ``agent`` is an agent, which is copied to the process, or a function without arguments that
    makes one in the process, as ``functools.partial(worldmodel.load, run)`` does.
    """

    def __init__(
        self,
        agent: Actor | Callable[[], Actor],
        *,
        deadline_ms: float | None,
        patience_s: float,
        start_s: float,
        most_rows: int,
        limits: Limits | None = None,
    ) -> None:
        self._make = (
            partial(_return_agent, copy.deepcopy(agent)) if isinstance(agent, Actor) else agent
        )
        self._deadline_ms = deadline_ms
        self._limits = limits
        self._patience_s = patience_s  # how long an answer may take
        self._start_s = start_s  # how long a process may take to begin
        self._most_rows = most_rows
        self._changed = threading.Condition()  # guards all attributes that follow
        self._rows: deque[Row] = deque()
        self._answers: list[Answer] = []
        self._process: BaseProcess | None = None
        self._ready: _Ready | None = None
        self._failure: str | None = None  # of the last process that ended
        self._refused: str | None = None  # why the agent does not fit
        self._due_at = float("inf")  # an answer later than this means that the process hangs
        self._awaited = -1  # number of the newest row whose answer is awaited; -1 for none
        self._is_killed = False
        self._is_closed = False
        self._counts = dict.fromkeys(("died", "hung", "restarted", "dropped_rows"), 0)
        self._thread = threading.Thread(
            target=self._supervise, name="worldmodel-planner", daemon=True
        )
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure, timeout=start_s)
            ready, failure = self._ready, self._failure
        if ready is None:
            self.close()
            if self._refused is not None:
                raise ValueError(self._refused)
            raise RuntimeError(
                f"planner: its process did not begin: {failure or f'no sign of it in {start_s} s'}"
            )
        self._about: _Ready = ready

    @property
    def fitting(self) -> ImageFit:
        return self._about.fitting

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
            if time.monotonic() > self._due_at and not self._is_killed:
                self._kill()
                self._counts["hung"] += 1
            self._rows.append(row)
            if len(self._rows) > self._most_rows:
                self._rows.popleft()
                self._counts["dropped_rows"] += 1
                self._rows[0] = replace(self._rows[0], begins=True)
            if self._awaited < 0 and self._ready is not None:
                self._awaited = row.number
                self._changed.notify_all()

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        with self._changed:
            if wait_s > 0:  # for the answer to this row only
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

    def _supervise(self) -> None:
        """Run one process after the other; the work of the thread."""
        pause_s = FIRST_PAUSE_S
        while not self._is_closed:
            connection: Connection | None = None
            try:
                connection = self._start()
                self._await_ready(connection.recv())
                while rows := self._take():
                    connection.send(rows)
                    self._publish(connection.recv())
                    pause_s = FIRST_PAUSE_S
            except Exception as error:  # of any kind: this process is replaced
                failure = f"{type(error).__name__}: {error}" if str(error) else ""
            else:
                failure = "closed"
            if connection is not None:
                connection.close()
            self._clean_up(failure)
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
            self._due_at = time.monotonic() + self._start_s
            if self._is_closed:
                self._kill()
        return ours

    def _await_ready(self, ready: _Ready | _Refused | str) -> None:
        if isinstance(ready, _Refused):
            self._refused = ready.sentence
            raise ValueError(ready.sentence)
        if isinstance(ready, str):
            raise RuntimeError(ready)
        with self._changed:
            self._ready = ready
            self._due_at = float("inf")
            self._changed.notify_all()

    def _take(self) -> list[Row]:
        """Wait for rows and take them all; none once this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._is_closed)
            if self._is_closed:
                return []
            rows = list(self._rows)
            self._rows.clear()
            self._awaited = rows[-1].number
            self._due_at = time.monotonic() + self._patience_s
            return rows

    def _publish(self, answer: Answer) -> None:
        with self._changed:
            self._answers.append(answer)
            del self._answers[: -self._most_rows]  # the control loop has stopped asking
            self._awaited = -1
            self._due_at = float("inf")
            self._changed.notify_all()

    def _clean_up(self, failure: str) -> None:
        with self._changed:
            process, self._process = self._process, None  # now no other thread can kill it
            is_ours, self._is_killed = self._is_killed, False
            self._ready = None
            self._awaited = -1
            self._due_at = float("inf")
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


def _return_agent(agent: Actor) -> Actor:
    return agent


def _work(
    connection: Connection,
    make: Callable[[], Actor],
    deadline_ms: float | None,
    limits: Limits | None,
) -> None:
    """Run the planning process until the other side closes the connection."""
    try:
        try:
            agent = make()
            use_threads(max(1, cores() - 1))  # one core is the loop's
            try:
                pilot = Pilot(agent, deadline_ms, limits)
            except ValueError as error:
                connection.send(_Refused(str(error)))
                return
            pilot.warm_up()
            ready = _Ready(pilot.fitting, pilot.vector_sizes, pilot.action_size)
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")
            return
        connection.send(ready)
        while True:
            connection.send(pilot.consume(connection.recv()))
    except (EOFError, OSError):
        return
