"""Progress without a terminal: plain lines, few enough for a log file."""

from __future__ import annotations

import math
from typing import IO

from worldmodel.progress.state import State

QUIET_S = 10.0  # least time between two lines of numbers


class Lines:
    """Writes plain lines."""

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
        """Nothing to close."""

    def write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def _line(self) -> str:
        state = self._state
        words = [f"env steps {steps}"] if (steps := state.steps_text()) else []
        for group in state.groups:
            if numbers := state.group_text(group):
                words.append(f"{group.title} {numbers}".strip())
        return "  ".join([*words, f"time {state.time_text()}"])
