"""Run code that may crash or hang in a process of its own, and report how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def ask(function: str, seconds: float, *arguments: str, **surroundings: str) -> dict[str, Any]:
    """Run a function of ``probes`` in a process of its own, and return the facts that it sent."""
    return alone(call_of(function, *arguments), seconds, **surroundings)


def call_of(function: str, *arguments: str) -> str:
    """The code that calls a function of ``probes``."""
    return f"from worldmodel.doctor import probes; probes.{function}(*{arguments!r})"


_TELL_EXCEPTIONS = """\
import json, sys
def tell(kind, error, trace):
    failure = " ".join(f"{kind.__name__}: {error}".split())
    sys.stdout.write("\\n" + json.dumps({"failure": failure}) + "\\n")
sys.excepthook = tell
"""


def alone(code: str, seconds: float, **surroundings: str) -> dict[str, Any]:
    """Run ``code`` in a process of its own, and return the facts that it sent, or a ``failure``.

    ``surroundings`` are environment variables; an empty value removes the variable.
    """
    with begun(code, seconds, **surroundings) as answer:
        return answer()


@contextlib.contextmanager
def begun(code: str, seconds: float, **surroundings: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """As ``alone``, but this process goes on; calling what it gives waits for the answer.

    The other process ends with the context, in any case.
    """
    environment = {**os.environ, **surroundings}
    environment = {name: value for name, value in environment.items() if value}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", _TELL_EXCEPTIONS + code],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its children can be killed with it
    )
    deadline = time.monotonic() + seconds
    try:
        yield lambda: _answer(process, deadline, seconds)
    finally:  # after Ctrl-C too: the process must not outlive this one
        if process.returncode is None:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a process with its children, and return what it had written."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def _answer(process: subprocess.Popen[str], deadline: float, seconds: float) -> dict[str, Any]:
    late = False
    try:
        output, errors = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        output, errors = _kill(process)
        late = True
    facts: dict[str, Any] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):  # libraries may print other lines
            row = json.loads(line)
            facts |= row if isinstance(row, dict) else {}
    if late:
        facts["failure"] = f"no answer in {seconds:g} s"
    elif process.returncode:
        facts.setdefault("failure", _how_it_ended(process.returncode, errors))
    return facts


def _how_it_ended(code: int, errors: str) -> str:
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"it ended with {code}"


def tell(**facts: Any) -> None:
    """Send facts at once to the process that started this one; a later crash loses none."""
    sys.stdout.write(f"\n{json.dumps(facts)}\n")
    sys.stdout.flush()
