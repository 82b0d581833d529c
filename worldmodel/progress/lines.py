"""Progress without a terminal: plain lines, few and short enough for a log file."""

from __future__ import annotations

import math
from typing import IO

from worldmodel.progress.state import State, duration_text, number_text, score_number

QUIET_S = 10.0  # least time between two lines of numbers, apart from a new phase
WIDTH = 100  # columns of a line of numbers, at most


class Lines:
    """Writes plain lines."""

    def __init__(self, state: State, file: IO[str]) -> None:
        self._state = state
        self._file = file
        self._last_line = -math.inf
        self._phase = ""  # in the last line

    def start(self) -> None:
        self.write(self._state.title)

    def refresh(self) -> None:
        """Write a line if a phase has begun, or if the last line is old enough."""
        begins = self._state.phase.what != self._phase
        if begins or self._state.clock() - self._last_line >= QUIET_S:
            self._last_line = self._state.clock()
            self._phase = self._state.phase.what
            self.write(self._line())

    def stop(self) -> None:
        """Nothing to close."""

    def write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def _line(self) -> str:
        """The time, the phase, and as many of the numbers as there is room for."""
        state, latest = self._state, self._state.latest
        left = "" if state.left is None else f", about {duration_text(state.left)} left"
        words = [f"{duration_text(state.elapsed)}{left}", str(state.phase)]
        if "score" in latest:
            words.append(f"score {score_number(latest['score'])}")
        if steps := state.steps_text():
            words.append(f"{steps} env steps")
        if "train_return" in latest:
            words.append(f"training return {number_text(latest['train_return'])}")
        line = ""
        for word in filter(None, words):
            longer = f"{line}  {word}" if line else word
            line = longer if len(longer) <= WIDTH else line
        return line
