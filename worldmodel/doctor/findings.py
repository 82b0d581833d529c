"""Findings: the state of one part of the machine, a sentence, and the command to repair it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from worldmodel.columns import aligned
from worldmodel.doctor.facts import TASK, Facts

LONGEST = 200  # letters of a message from another package


@dataclass(frozen=True)
class Finding:
    """A ``problem`` prevents training on this machine; a ``note`` does not."""

    state: Literal["ok", "note", "problem"]
    subject: str
    said: str
    remedy: str = ""  # the command to type


def works(findings: Sequence[Finding]) -> bool:
    """True if no finding is a problem, so that training can start on this machine."""
    return all(finding.state != "problem" for finding in findings)


def blame(facts: Facts) -> Literal["note", "problem"]:
    """The state of a defect: a problem only if the short training fails."""
    return "problem" if facts.trial.failure else "note"


def split(failure: str) -> tuple[str, str]:
    """Split an error's message into the sentence and the command after "type:", if any."""
    said, _, remedy = failure.removeprefix("ConfigError: ").partition("; type: ")
    return textwrap.shorten(said, LONGEST, placeholder=" ..."), remedy


def count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def describe(findings: Sequence[Finding], width: int = 100) -> str:
    """A row for each finding, its command below it, and a last line with the conclusion."""
    states, subjects = len("problem"), max(len(finding.subject) for finding in findings)
    said_width = width - len("  " + "  " + "  ") - states - subjects
    rows = []
    for finding in findings:
        said = textwrap.fill(
            finding.said, said_width, break_long_words=False, break_on_hyphens=False
        )
        rows.append((finding.state.ljust(states), finding.subject, said))
        if finding.remedy:  # never wrapped: people copy it
            rows.append(("", "", f"type: {finding.remedy}"))
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        last = f"{count(problems, 'problem')} between you and a first run; begin with the first"
    else:
        last = f"all that a run needs is here: worldmodel train {TASK} --minutes 10"
    return "\n".join((aligned(rows, indent="  "), "", last))
