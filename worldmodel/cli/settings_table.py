"""The tree of all settings as a table that travels with the package, and that tree without torch.

Settings are declared in the files of their parts, and most of these import torch, which takes
seconds. ``settings_table.json`` holds what they declare: names, types, bounds, defaults, kinds and
sentences. ``settings_tree()`` builds dataclasses from it that ``checks.read`` and ``checks.check``
treat like the true ones, so that a mistake is answered at once and in the same words. What
the table does not hold, such as a rule between two settings, is left to ``Config`` itself.

``python -m worldmodel.cli.settings_table`` writes the table; a test compares it with ``Config``.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from worldmodel import files
from worldmodel.checks import Bound, bounds, hints, is_optional, options, sections

TABLE = Path(__file__).with_name("settings_table.json")
ROOT = "config.Config"
TYPES: dict[str, Any] = {
    "whole number": int,
    "number": float,
    "true or false": bool,
    "text": str,
    "whole numbers": tuple[int, ...],
}
NAMES = {kind: name for name, kind in TYPES.items()}

Row = dict[str, Any]
"""One setting: name, sentence, default, and its type or the classes of its part."""


@functools.cache
def settings_tree() -> Any:
    """The default settings, as dataclasses that are made from the table."""
    table: dict[str, list[Row]] = json.loads(TABLE.read_text())
    return _class_of(ROOT, table, {})()


def _class_of(name: str, table: Mapping[str, list[Row]], made: dict[str, type]) -> type:
    """The dataclass of that name in the table. ``made``: those that exist already."""
    if name not in made:
        fields = []
        for row in table[name]:
            variants = [_class_of(part, table, made) for part in row.get("parts", ())]
            by_name = dict(zip(row.get("parts", ()), variants, strict=True))
            hint = Union[tuple(variants)] if variants else _hint(row)  # noqa: UP007
            default = row["default"]
            if variants:
                default = None if default is None else by_name[default]()
            elif isinstance(default, list):  # JSON has no tuples
                default = tuple(default)
            sentence = {"sentence": row["sentence"]}
            field = dataclasses.field(default=default, metadata=sentence)
            fields.append((row["name"], Optional[hint] if row["optional"] else hint, field))  # noqa: UP045
        made[name] = dataclasses.make_dataclass(name.rsplit(".")[-1], fields, frozen=True)
    return made[name]


def _hint(row: Row) -> Any:
    """The type of a single setting."""
    if "choices" in row:
        return Literal[tuple(row["choices"])]
    kind: Any = TYPES[row["type"]]
    limits = [Bound(**limit) for limit in row.get("bounds", ())]
    return Annotated[(kind, *limits)] if limits else kind


def sentence_of(part: Any, name: str) -> str:
    """The sentence of a setting; ``part`` comes from ``settings_tree``."""
    field = next(f for f in dataclasses.fields(part) if f.name == name)
    return str(field.metadata["sentence"])


# ---------------------------------------------------------------------------- writing the table


def table() -> str:
    """The table of the settings as they are declared; this imports all of them."""
    from worldmodel.config import Config

    collected: dict[str, list[Row]] = {}
    _collect(Config, collected)
    parts = []
    for name, rows in collected.items():  # a line for each setting
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _collect(section: type, collected: dict[str, list[Row]]) -> None:
    """Add the rows of a dataclass and of all that it contains."""
    if _name(section) in collected:
        return
    rows = collected[_name(section)] = []
    sentences, declared = _docstrings(section), hints(section)
    for field in dataclasses.fields(section):
        hint = declared[field.name]
        row: Row = {
            "name": field.name,
            "sentence": sentences.get(field.name, ""),
            "optional": is_optional(hint),
        }
        if variants := sections(hint):
            row["parts"] = [_name(variant) for variant in variants]
            default: Any = field.default
            if default is not None and default != type(default)():
                raise TypeError(f"{section}.{field.name}: its default has defaults of its own")
            row["default"] = None if default is None else _name(type(default))
        else:
            row |= _type(hint) | {"default": field.default}
        rows.append(row)
        for variant in variants:
            _collect(variant, collected)


def _type(hint: Any) -> Row:
    kind = next(option for option in options(hint) if option is not types.NoneType)
    if typing.get_origin(kind) is Literal:
        return {"choices": list(typing.get_args(kind))}
    limits = [dataclasses.asdict(bound) for bound in bounds(hint)]
    said = [{n: v for n, v in limit.items() if v != math.inf and v is not True} for limit in limits]
    return {"type": NAMES[kind]} | ({"bounds": said} if said else {})


def _name(section: type) -> str:
    return f"{section.__module__.removeprefix('worldmodel.')}.{section.__qualname__}"


def _docstrings(section: type) -> dict[str, str]:
    """The docstring under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(tree, ast.ClassDef)
    collected = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            collected[field.target.id] = " ".join(below.value.value.split())
    return collected


if __name__ == "__main__":
    files.write(TABLE, table().encode())
