"""Parsing: typed arguments become those of a function."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldmodel.checks import require

RunFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="its folder")]

Trust = Annotated[
    bool,
    tyro.conf.arg(help="play the run even if its task, gym:MODULE:ID, imports a module"),
]


def parse(
    name: str, command: Callable[[list[str]], int], work: Callable[..., int], typed: list[str]
) -> int:
    """Call ``work`` with the typed arguments; the help shows the docstring of ``command``.

    A value that does not fit its option is answered in the sentence that settings have too.
    """
    for option, hint in typing.get_type_hints(work).items():
        for value in _values(f"--{option.replace('_', '-')}", typed):
            _require_fit(option, hint, value)
    return tyro.cli(
        work,
        prog=f"worldmodel {name}",
        description=inspect.getdoc(command),
        args=typed,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _values(option: str, typed: list[str]) -> list[str | None]:
    """The word after each ``option``, or after its equals sign; None: there is no such word."""
    values: list[str | None] = []
    for word, following in itertools.zip_longest(typed, typed[1:]):
        if word == option:
            is_name = following is None or following.startswith("--")
            values.append(None if is_name else following)
        elif word.startswith(f"{option}="):
            values.append(word.removeprefix(f"{option}="))
    return values


EXPECTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
}


def _require_fit(option: str, hint: Any, value: str | None) -> None:
    """Raise unless an option of this type takes ``value``; flags and lists are left to tyro."""
    may_be_none = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kind = typing.get_args(hint)[0] if may_be_none else hint
    fits = value is not None
    if typing.get_origin(kind) is Literal:
        choices = [str(choice) for choice in typing.get_args(kind)]
        expected, fits = f"one of {', '.join(choices)}", value in choices
    elif kind in EXPECTED:
        expected = EXPECTED[kind]
    else:
        return
    if value is not None and kind in (int, float):
        fits = False
        with contextlib.suppress(ValueError):
            kind(value)
            fits = True
    got = "nothing" if value is None else value
    fits = fits or (may_be_none and value == "None")
    require(fits, f"{option}: expected {expected}, got {got}")
