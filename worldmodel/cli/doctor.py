"""``worldmodel doctor``: examine the machine and print the findings, or JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.cli.arguments import parse
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import say


def command(typed: list[str]) -> int:
    """Show what works on this machine, and the command that repairs what does not.

    The exit code is 0 if a task can be made, drawn and learned here, else 1.

    Example:
        worldmodel doctor --pictures drawn
    """
    return parse("doctor", command, _examine, typed)


def _examine(
    *,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
    pictures: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="keep an image of each renderer here")
    ] = None,
) -> int:
    if pictures is not None:
        require_writable(pictures, "pictures")

    from worldmodel import doctor  # imports torch, and mistakes are answered before

    watched = sys.stderr.isatty() and not as_json
    facts = doctor.gather(pictures, say if watched else lambda text: None)
    findings = doctor.judge(facts)
    works = doctor.works(findings)
    if as_json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        answer = {"works": works, "findings": listed, "facts": dataclasses.asdict(facts)}
        print(json.dumps(answer, allow_nan=False))
    else:
        print(doctor.describe(findings))
    return 0 if works else 1
