"""``worldmodel doctor``: examine the machine and print the findings, or JSON."""

from __future__ import annotations

import contextlib
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

    It takes less than 20 s on two cores that do nothing else, and half a minute the first time,
    because warp then compiles. The exit code is 0 if a task can be made, drawn and learned here,
    else 1.

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
    quick: Annotated[bool, tyro.conf.arg(help="leave out the short training")] = False,
) -> int:
    if pictures is not None:
        require_writable(pictures, "pictures")
    screen = sys.stderr if as_json else sys.stdout
    say(f"examining this machine{'' if quick else ' with a short training'}: up to half a minute")

    from worldmodel import doctor  # imports torch, and mistakes are answered before

    shown: list[doctor.Finding] = []
    with contextlib.closing(doctor.gather(pictures, quick=quick)) as growing:
        for facts in growing:
            for finding in doctor.judge(facts):
                if finding not in shown:
                    print(doctor.line_of(finding), file=screen, flush=True)
                    shown.append(finding)
    findings = doctor.judge(facts)
    works = doctor.works(findings)
    print(f"\n{doctor.conclude(findings, quick=quick)}", file=screen)
    if as_json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        answer = {"works": works, "findings": listed, "facts": dataclasses.asdict(facts)}
        print(json.dumps(answer, allow_nan=False))
    return 0 if works else 1
