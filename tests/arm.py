"""A simulated arm in a process of its own, and faults of it while a controller drives it.

The arm moves and sends images on its own clock, and writes down every command that reaches it. In
the controlling process ``Trial`` stands for its camera, its motors and the operator's button: it
breaks one thing after the other as a seed says, and waits for recovery before the next.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # without this import the arm's process starts at once
    from worldmodel.robot import Controller

PERIOD_S = 0.02  # fifty images a second
LOW, HIGH, CHANGE = -2.0, 2.0, 0.2
REST = np.zeros(2, np.float32)
LATE_IMAGES = 60  # the delay of a late camera, in images: more than a second
LIMIT_S = 300.0  # longest wait for one event, which usually takes one to three seconds

# Faults, and for each the count of the controller that must rise.
CAMERA_FAULTS = {
    "frozen": "frozen_image",
    "late": "late_image",
    "dropped": "no_image",
    "not a number": "bad_image",
    "wrong dtype": "bad_image",
    "wrong shape": "bad_image",
}
MOTOR_FAULTS = {"clipped": None, "unknown": "bad_executed"}
PLANNER_FAULTS = {"killed": "died", "stopped": "hung"}
FAULTS: Mapping[str, str | None] = {**CAMERA_FAULTS, **MOTOR_FAULTS, **PLANNER_FAULTS}


class Arm:
    """Two joints with friction. A command is their torques; the camera sees two bright marks."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.angle = np.zeros(2)
        self.velocity = np.zeros(2)

    def move(self, torque: NDArray[np.floating]) -> None:
        self.velocity += PERIOD_S * (5.0 * torque - 2.0 * self.velocity)
        self.angle = (self.angle + PERIOD_S * self.velocity + np.pi) % (2 * np.pi) - np.pi

    def image(self) -> NDArray[np.uint8]:
        image = self.random.integers(0, 20, (16, 16, 3), np.uint8)  # a camera's noise
        columns = ((self.angle / np.pi + 1.0) * 8.0).astype(int) % 16
        image[2:6, columns[0]] = image[10:14, columns[1]] = 255
        return image


@dataclass(frozen=True)
class Command:
    """A command that reached the motors."""

    at: float  # seconds, by the arm's clock
    action: Any
    complaint: str | None


@dataclass(frozen=True)
class Record:
    commands: list[Command]
    images: int  # sent
    seconds: float


class Motors:
    """Check each command, and execute it or half of it."""

    def __init__(self) -> None:
        self.done = REST
        self.commands: list[Command] = []

    def execute(self, action: Any, fault: str | None) -> NDArray[np.float32]:
        """Execute a command; return the executed action as the motors report it."""
        self.commands.append(Command(time.monotonic(), action, complain(action, self.done)))
        self.done = action / np.float32(2) if fault == "clipped" else action
        return np.full(2, np.nan, np.float32) if fault == "unknown" else self.done


def complain(action: Any, done: NDArray[np.float32]) -> str | None:
    """A sentence on a command that breaks a limit; ``done``: the action executed before it."""
    if type(action) is not np.ndarray or action.dtype != np.float32 or action.shape != (2,):
        return f"no float32 [2]: {action!r}"
    if not np.isfinite(action).all():
        return f"not finite: {action}"
    if (action < LOW).any() or (action > HIGH).any():
        return f"outside low and high: {action}"
    if (np.abs(action.astype(np.float64) - done) > CHANGE).any():
        return f"changed too far: from {done} to {action}"
    return None


def work(commands: Connection, camera: Connection, seed: int) -> None:
    """Run the arm's process. It receives faults as words, commands as arrays, None at the end."""
    arm, motors, fault = Arm(seed), Motors(), None
    history: deque[tuple[NDArray[np.uint8], float]] = deque(maxlen=LATE_IMAGES)
    begun = due = time.monotonic()
    images = 0
    while True:
        while commands.poll(max(0.0, due - time.monotonic())):
            word = commands.recv()
            if word is None:
                commands.send(Record(motors.commands, images, time.monotonic() - begun))
                return
            if isinstance(word, str):
                fault = word
            else:
                commands.send(motors.execute(word, fault))
        due = max(due + PERIOD_S, time.monotonic())
        arm.move(motors.done)
        history.append((arm.image(), time.monotonic()))
        can_send = bool(
            select.select([], [camera], [], 0)[1]
        )  # if the pipe is full, the image is dropped
        if can_send and fault != "dropped":
            camera.send(spoil(history, fault))
            images += 1


def spoil(history: deque[tuple[NDArray[np.uint8], float]], fault: str | None) -> tuple[Any, float]:
    """The newest image and when it was taken, as a broken camera gives them."""
    image, taken_at = history[-1]
    match fault:
        case "frozen":
            history[-1] = (history[-2][0], taken_at)
            return history[-1]
        case "late":
            return history[0]
        case "not a number":
            return np.full(image.shape, np.nan, np.float32), taken_at
        case "wrong dtype":
            return image.astype(np.int32), taken_at
        case "wrong shape":
            return image[:8], taken_at
    return image, taken_at


def planner() -> int | None:
    """The process id of this process's planner, if it runs."""
    alive = multiprocessing.active_children()
    return next((child.pid for child in alive if child.name == "worldmodel-planner"), None)


class Ended(Exception):  # noqa: N818
    """Raised at the end of a trial, to end the loop of the example."""


class Trial:
    """The arm's camera, motors and button; each call of the camera is one line of the script.

    ``names`` are those of the script that drives: its ``controller`` is looked at, never touched.
    """

    def __init__(self, names: Mapping[str, Any], seed: int) -> None:
        self.names = names
        self.random = np.random.default_rng(seed)
        self.script: Iterator[None] = iter(())
        self.is_pressed = False
        self.sent = REST  # the last command
        context = multiprocessing.get_context("spawn")
        self._commands, theirs = context.Pipe()
        self._images, camera = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(theirs, camera, seed), daemon=True)
        self._process.start()
        theirs.close()
        camera.close()

    # Called by the driving script

    def camera(self) -> tuple[Any, float | None]:
        """The newest image and its time; None, None if none came for two periods."""
        if next(self.script, "over") == "over":
            raise Ended
        newest: tuple[Any, float | None] = (None, None)
        if self._images.poll(2 * PERIOD_S):
            newest = self._images.recv()
        while self._images.poll(0):
            newest = self._images.recv()
        return newest

    def execute(self, action: Any) -> Any:
        self.sent = action
        self._commands.send(action)
        return self._commands.recv()

    def pressed(self) -> bool:
        return self.is_pressed

    # The script of faults

    @property
    def controller(self) -> Controller:
        controller: Controller = self.names["controller"]
        return controller

    def all_faults_once(self, kinds: Mapping[str, str | None]) -> Iterator[None]:
        """Cause each fault, in random order; some end soon, some after the motors have stopped."""
        yield from self.until_it_plans()
        for kind in self.random.permutation(list(kinds)):
            lasts = bool(kind == "dropped" or self.random.random() < 0.3)
            yield from self.breaks(str(kind), kinds[str(kind)], lasts)

    def for_so_long(self, seconds: float, kinds: Mapping[str, str | None]) -> Iterator[None]:
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            yield from self.all_faults_once(kinds)

    def breaks(self, kind: str, counted: str | None, lasts: bool) -> Iterator[None]:
        """Cause one fault, check its effects, and recover from it."""
        yield from self.until(lambda: planner() is not None, kind)
        before = self.controller.counts
        self.begin(kind)
        yield from self.steps(int(self.random.integers(5, 30)))
        if counted is not None:
            yield from self.until(lambda: self.controller.counts[counted] > before[counted], kind)
        if lasts and kind in CAMERA_FAULTS:
            yield from self.until(lambda: self.controller.state == "stop", kind)
        self.begin("none")
        if self.controller.state == "stop":
            yield from self.steps(30)  # the fault is over, and it must not move without being armed
            assert self.controller.state == "stop", kind
            assert not self.controller.is_armed, kind
            np.testing.assert_array_equal(self.sent, REST)
        yield from self.until_it_plans()

    def begin(self, kind: str) -> None:
        pid = planner()
        if kind in PLANNER_FAULTS and pid is not None:
            os.kill(pid, signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        else:
            self._commands.send(kind)

    def until_it_plans(self) -> Iterator[None]:
        self.is_pressed = True
        yield from self.until(lambda: self.controller.state in ("plan", "shifted"), "recovery")
        self.is_pressed = False
        yield from self.steps(int(self.random.integers(5, 20)))

    def until(self, reached: Callable[[], bool], what: str) -> Iterator[None]:
        begun = time.monotonic()
        while not reached():
            assert time.monotonic() - begun < LIMIT_S, (what, self.controller.counts)
            yield

    def steps(self, count: int) -> Iterator[None]:
        for _ in range(count):
            yield

    def close(self) -> Record:
        """End the process, and return what the arm recorded."""
        self._commands.send(None)
        record: Record = self._commands.recv()
        self._process.join(timeout=LIMIT_S)
        return record
