"""Signals: handlers for a block of code, and noting the signals that ask for an end."""

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
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with handled([signal.SIGINT, signal.SIGTERM], note):
        yield received


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
