"""Comparison of settings: their hash, their differences, and those that a file leaves out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from worldmodel.checks import hints, sections

if TYPE_CHECKING:  # it imports torch, and settings are compared without it
    from worldmodel.config import Config


def shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that compared runs have in common: all except task and seed."""
    return {name: value for name, value in settings.items() if name not in ("task", "seed")}


def settings_hash(config: Config) -> str:
    """A hash of twelve letters of all settings except task and seed."""
    text = json.dumps(shared(dataclasses.asdict(config)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of every setting to change in ``old`` so that it becomes ``new``.

    If a part is of another kind, its settings are compared with the defaults of the new kind,
    because naming the kind sets these defaults.
    """
    for f in dataclasses.fields(new):
        before, where = getattr(old, f.name), f"{path}{f.name}"
        after: Any = getattr(new, f.name)
        if not sections(type(after)):
            if before != after:
                yield where, getattr(before, "kind", before), after
        elif isinstance(before, type(after)):
            yield from changes(before, after, f"{where}.")
        elif hasattr(after, "kind"):
            yield f"{where}.kind", getattr(before, "kind", None), after.kind
            yield from changes(type(after)(), after, f"{where}.")
        else:
            for name, value in dataclasses.asdict(after).items():
                yield f"{where}.{name}", None, value


def differences(old: Any, new: Any) -> list[str]:
    """``path: old -> new`` for every setting that differs."""
    return [f"{path}: {before} -> {after}" for path, before, after in changes(old, new)]


def unsaid(config: Config, written: Mapping[str, Any]) -> list[str]:
    """``path: value`` for every setting that ``written`` lacks, and so has today's default.

    A part that is absent today was absent when its place did not exist yet: it needs no line.
    """

    def walk(part: Any, written: Mapping[str, Any], path: str) -> list[str]:
        rows: list[str] = []
        for f in dataclasses.fields(part):
            value, where = getattr(part, f.name), f"{path}{f.name}"
            if dataclasses.is_dataclass(value):
                rows += walk(value, written.get(f.name) or {}, f"{where}.")
            elif f.name not in written and not (value is None and parts_of(part, f.name)):
                rows.append(f"{where}: {value}")
        return rows

    def parts_of(part: Any, name: str) -> list[type]:
        return sections(hints(type(part))[name])

    return walk(config, written, "")
