"""Signals: what a process does when somebody asks it to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(
    numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Call ``handler`` on these signals until the block ends.

    Outside the main thread, where Python allows no handlers, nothing changes: the main thread
    decides what a signal does.
    """
    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list; the second one raises KeyboardInterrupt."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with handled([signal.SIGINT, signal.SIGTERM], note):
        yield came


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
