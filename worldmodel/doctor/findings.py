"""Findings: the state of one part of the machine, a sentence, and the command to repair it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from worldmodel.columns import aligned
from worldmodel.doctor.facts import TASK, Facts

LONGEST = 200  # letters of a message from another package
WIDTH = 100  # columns of the screen
SUBJECTS = len("imageio-ffmpeg")  # the longest; fixed, because each line is shown when it is known


State = Literal["ok", "note", "problem", "open"]


@dataclass(frozen=True)
class Finding:
    """A ``problem`` prevents training on this machine; a ``note`` does not.

    ``open``: a defect, and it is not known yet whether it prevents training.
    """

    state: State
    subject: str
    said: str
    remedy: str = ""  # the command to type


def works(findings: Sequence[Finding]) -> bool:
    """True if no finding is a problem, so that training can start on this machine."""
    return all(finding.state != "problem" for finding in findings)


def blame(facts: Facts) -> State:
    """The state of a defect: a problem only if the short training fails.

    If that was left out, a defect is a problem if torch fails or nothing can be drawn.
    """
    if facts.trial is not None:
        return "problem" if facts.trial.failure else "note"
    if not facts.quick or facts.arithmetic is None or None in facts.drawings.values():
        return "open"
    fails = facts.arithmetic.failure or facts.simulator_failure or not who_draws(facts)
    return "problem" if fails else "note"


def who_draws(facts: Facts) -> set[str]:
    """The names of the renderers that work."""
    return {name for name, drawing in facts.drawings.items() if drawing and drawing.frames_per_s}


def split(failure: str) -> tuple[str, str]:
    """Split an error's message into the sentence and the command after "type:", if any."""
    said, _, remedy = failure.removeprefix("ConfigError: ").partition("; type: ")
    return textwrap.shorten(said, LONGEST, placeholder=" ..."), remedy


def count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def describe(findings: Sequence[Finding], *, quick: bool = False, width: int = WIDTH) -> str:
    """The lines of each finding, and a last line with the conclusion."""
    lines = [line_of(finding, width) for finding in findings]
    return "\n".join((*lines, "", conclude(findings, quick=quick)))


def line_of(finding: Finding, width: int = WIDTH) -> str:
    """A line with state, subject and sentence, and below it the command to type, if any."""
    states = len("problem")
    said_width = width - len("  " + "  " + "  ") - states - SUBJECTS
    said = textwrap.fill(finding.said, said_width, break_long_words=False, break_on_hyphens=False)
    rows = [(finding.state.ljust(states), finding.subject.ljust(SUBJECTS), said)]
    if finding.remedy:  # never wrapped: people copy it
        rows.append(("", "", f"type: {finding.remedy}"))
    return aligned(rows, indent="  ")


def conclude(findings: Sequence[Finding], *, quick: bool = False) -> str:
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        return f"{count(problems, 'problem')} between you and a first run; begin with the first"
    if quick:
        return "nothing stands against a run; a short training was not tried: worldmodel doctor"
    return f"all that a run needs is here: worldmodel train {TASK} --minutes 25"
