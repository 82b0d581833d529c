"""What a command runs in: its warnings, its signals, its threads."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import warnings
from collections.abc import Iterator

import torch

from worldmodel import signals
from worldmodel.cli.screen import say


@contextlib.contextmanager
def surroundings(quiet: bool) -> Iterator[None]:
    """Our warnings reach the screen, the libraries' do not; SIGTERM is an interrupt.

    ``quiet`` is for the process of a command: whoever calls ``main`` keeps their own warnings.
    """
    screen = _Screen(logging.WARNING)
    logger = logging.getLogger("worldmodel")
    logger.addHandler(screen)
    try:
        with signals.handled([signal.SIGTERM], signals.interrupt), warnings.catch_warnings():
            if quiet and not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(screen)


class _Screen(logging.Handler):
    """Wherever stderr leads at that moment: a live screen puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Planning is many small sums. Two threads wait for each other where something else runs too:
    the default plan took 30 ms with one and up to 3 s with two, on two cores at a load of three.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
