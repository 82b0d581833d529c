"""The process of a command: its warnings, signals and threads."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import warnings
from collections.abc import Iterator

from worldmodel import signals
from worldmodel.cli.screen import say


@contextlib.contextmanager
def process_setup(quiet: bool) -> Iterator[None]:
    """Print our warnings and hide those of libraries; treat SIGTERM as an interrupt.

    ``quiet`` is for the process of a command; a program that calls ``main`` keeps its warnings.
    """
    screen = _Screen(logging.WARNING)
    logger = logging.getLogger("worldmodel")
    logger.addHandler(screen)
    # Some libraries give the root logger a handler, which would write each warning once more.
    was_passed_on, logger.propagate = logger.propagate, False
    try:
        with signals.handled([signal.SIGTERM], signals.interrupt), warnings.catch_warnings():
            if quiet and not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(screen)
        logger.propagate = was_passed_on


class _Screen(logging.Handler):
    """Writes to the present stderr, which a live screen replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread.

    Planning is many small products, and two threads wait for each other if something else runs
    too: the default plan took 30 ms with one and up to 3 s with two, on two cores at a load of
    three.
    """
    import torch  # takes seconds, and mistakes are answered without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
