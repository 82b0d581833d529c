from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest

from worldmodel import processes


def answer(connection: Connection, word: str) -> None:
    connection.send((word, signal.getsignal(signal.SIGINT) is signal.SIG_IGN, os.getppid()))


def hang(connection: Connection, hears_sigterm: bool) -> None:
    if not hears_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send("begun")
    time.sleep(3600)


def received(process: BaseProcess, connection: Connection) -> object:
    try:
        return connection.recv()
    except EOFError:
        pytest.fail(f"{process.name} ended with exit code {processes.stop(process, 10)}")


def test_a_process_is_given_its_arguments_and_ignores_ctrl_c() -> None:
    process, connection = processes.start(answer, "word", name="answering")
    assert received(process, connection) == ("word", True, os.getpid())
    assert process.name == "answering"
    assert processes.stop(process, 300) == 0  # by itself


@pytest.mark.parametrize(
    ("hears_sigterm", "leave_s", "code"),
    [
        (True, 3.0, -signal.SIGTERM),  # on a busy machine it needs a while to end
        (False, 0.1, -signal.SIGKILL),
        (True, 0.0, -signal.SIGKILL),
    ],
)
def test_a_process_that_hangs_is_stopped_in_steps(
    hears_sigterm: bool, leave_s: float, code: int
) -> None:
    process, connection = processes.start(hang, hears_sigterm, name="hanging")
    assert received(process, connection) == "begun"
    assert processes.stop(process, leave_s) == code
    assert not process.is_alive()
