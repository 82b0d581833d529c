"""Progress without a terminal: plain lines, few enough for a file that keeps them."""

from __future__ import annotations

import math
from typing import IO

from worldmodel.progress.state import State

QUIET_S = 10.0  # a line of numbers at most this often


class Lines:
    def __init__(self, state: State, file: IO[str]) -> None:
        self._state = state
        self._file = file
        self._last_line = -math.inf

    def start(self) -> None:
        self.write(self._state.title)

    def refresh(self) -> None:
        if self._state.clock() - self._last_line >= QUIET_S:
            self._last_line = self._state.clock()
            self.write(self._line())

    def stop(self) -> None:
        """Nothing is open."""

    def write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def _line(self) -> str:
        state = self._state
        words = [f"env steps {steps}"] if (steps := state.say_steps()) else []
        for group in state.groups:
            if said := state.say(group):
                words.append(f"{group.title} {said}".strip())
        return "  ".join([*words, f"time {state.say_time()}"])
