"""Parsing: typed arguments become those of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

RunFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="its folder")]

Trust = Annotated[
    bool,
    tyro.conf.arg(help="play the run even if its task, gym:MODULE:ID, imports a module"),
]


def parse(
    name: str, command: Callable[[list[str]], int], work: Callable[..., int], typed: list[str]
) -> int:
    """Call ``work`` with the typed arguments; the help shows the docstring of ``command``."""
    return tyro.cli(
        work,
        prog=f"worldmodel {name}",
        description=inspect.getdoc(command),
        args=typed,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
