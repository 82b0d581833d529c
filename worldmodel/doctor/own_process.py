"""Run code that may crash or hang in a process of its own, and report how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any


def ask(function: str, seconds: float, *arguments: str, **surroundings: str) -> dict[str, Any]:
    """Run a function of ``probes`` in a process of its own, and return the facts that it sent."""
    code = f"from worldmodel.doctor import probes; probes.{function}(*{arguments!r})"
    return alone(code, seconds, **surroundings)


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
    late = False
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException as error:  # Ctrl-C too: the process must not outlive this one
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
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
