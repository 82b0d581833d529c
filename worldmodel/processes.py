"""Child processes: started without fork, ended with their parent, stopped in steps."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

CONTEXT = multiprocessing.get_context("spawn")  # a forked process would lack torch's threads
KILLED_S = 10.0  # to wait for a process after SIGKILL; one inside a broken driver may never end


def start(work: Callable[..., None], *args: Any, name: str) -> tuple[BaseProcess, Connection]:
    """Start a process that calls ``work(connection, *args)``; return it and our connection to it.

    The process ignores Ctrl-C, because its parent decides when to leave. On Linux the kernel kills
    it when the thread that called ``start`` ends, even by SIGKILL.
    """
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(work, theirs, *args), name=name, daemon=True)
    resource_tracker.ensure_running()  # starting it would lift the block that follows
    # The new process inherits the blocked signal: Ctrl-C could reach it before it ignores SIGINT.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return process, ours


def stop(process: BaseProcess, leave_s: float = 0.0) -> int | None:
    """End a process and return its exit code; None if the kernel could not end it.

    It gets ``leave_s`` to end by itself, then as long after SIGTERM, then SIGKILL, which also ends
    a process that is stopped (SIGSTOP).
    """
    if leave_s > 0:
        process.join(leave_s)
        if process.is_alive():
            process.terminate()
            process.join(leave_s)
    process.kill()
    process.join(KILLED_S)
    return process.exitcode


def _run(work: Callable[..., None], connection: Connection, *args: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent()
    work(connection, *args)


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends: it ends even a process that hangs."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # the parent ended before the kernel was asked
