"""The options of ``worldmodel train``: every setting, with a preset's values as defaults."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldmodel.checks import (
    RENAMED,
    ConfigError,
    hints,
    is_optional,
    kinds,
    nearest,
    read,
    read_numbers,
    refuse_other_kind,
    sections,
)
from worldmodel.cli.tasks import known_tasks
from worldmodel.config import Config
from worldmodel.presets import load_preset, presets


@dataclass(frozen=True)
class _Options:
    """The options of ``train`` that are not settings."""

    preset: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="PRESET", help="a preset's name, a YAML file, or a task"),
    ] = "default"
    task: Annotated[str, tyro.conf.arg(metavar="TASK", help="one of `worldmodel tasks`")] = ""
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help="its folder; default: runs/PRESET-TASK-SEED"),
    ] = None
    steps: Annotated[
        int | None, tyro.conf.arg(metavar="N", help="end at so many simulator steps in total")
    ] = None
    minutes: Annotated[
        float | None, tyro.conf.arg(metavar="M", help="end after so many minutes in total")
    ] = None
    seed: Annotated[
        str, tyro.conf.arg(metavar="S[,S...]", help="several are trained one after another")
    ] = "0"
    device: Annotated[Literal["cpu", "cuda"], tyro.conf.arg(help="where the model learns")] = "cpu"


def first_word(typed: Sequence[str]) -> str | None:
    """The first word that is neither an option nor its value; each option takes one value."""
    waiting = False  # the last option has no value yet
    for token in typed:
        if token.startswith("--") or token == "-h":
            waiting = "=" not in token and token not in ("-h", "--help")
        elif waiting:
            waiting = False
        else:
            return token
    return None


def starting_point(word: str) -> tuple[str, Config]:
    """The name and settings of a preset; a task's name means the default preset on that task."""
    shipped = presets()
    names_a_file = word.endswith((".yaml", ".yml")) or "/" in word
    if word in shipped or (names_a_file and not word.startswith("gym:")):
        return word, load_preset(word)
    if word.startswith("gym:") or word in known_tasks():
        return "default", dataclasses.replace(load_preset("default"), task=word)
    raise ConfigError(f"no preset or task {word}{nearest(word, [*shipped, *known_tasks()])}")


def settings_fields() -> list[dataclasses.Field[Any]]:
    """The fields of the configuration that ``_Options`` does not replace."""
    return [f for f in dataclasses.fields(Config) if f.name not in ("task", "seed")]


def choose_kinds(base: Config, typed: Sequence[str]) -> tuple[Any, list[str]]:
    """Apply the typed kinds to the sections of ``base``; return these and the other words.

    The options depend on the kinds, so kinds are read first, like a preset: ``--planner.kind cem``,
    ``--model.value none``. A part that is absent in ``base`` becomes present if a setting of it is
    typed. The sections are returned in a record that is not a ``Config``, because they can be
    checked against each other only after the other words are read.
    """
    typed_kinds: dict[str, Any] = {}
    left: list[str] = []
    options: list[list[str]] = []
    words = iter(typed)
    for word in words:
        option, equals, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_").split(".")
        if not word.startswith("--") or not _chooses(path):
            left.append(word)
            options += [path] if word.startswith("--") else []
            continue
        kind = value if equals else next(words, None)
        if kind is None:
            left.append(word)  # the parser reports that its value is missing
        else:
            _put(typed_kinds, path, "none" if kind.lower() == "none" else kind)
    sections_of = dataclasses.make_dataclass("Sections", list(hints(Config).items()), frozen=True)
    chosen = read(sections_of(**vars(base)), typed_kinds)
    for path in options:
        chosen = _with_part(chosen, path)
    return chosen, left


def _chooses(path: Sequence[str]) -> bool:
    """Whether an option chooses a kind, or names a part instead of one of its settings."""
    part = _declared(path[:-1])
    has_kinds = len(sections(part)) > 1 or is_optional(part)
    return bool(sections(_declared(path))) or (path[-1] == "kind" and has_kinds)


def _declared(path: Sequence[str]) -> Any:
    """The type of a part or setting in the kinds that have it; None if none has."""
    hint: Any = Config
    for name in path:
        found = [hints(section)[name] for section in sections(hint) if name in hints(section)]
        if not found:
            return None
        hint = found[0]
    return hint


def _put(nested: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Add ``{"a": {"b": value}}`` for the path a.b to a nested dict."""
    for name in path[:-1]:
        if not isinstance(nested.get(name), dict):
            nested[name] = {}
        nested = nested[name]
    nested[path[-1]] = value


def _with_part(base: Any, path: Sequence[str]) -> Any:
    """Return ``base`` with the part of a typed option; refuse an option that was renamed."""
    if _declared(path) is None and (name := ".".join(path)) in RENAMED:
        raise ConfigError(f"{name}: renamed; write {RENAMED[name]}")
    part: Any = base
    hint: Any = Config
    for depth, section in enumerate(path[:-1], start=1):
        hint = hints(type(part)).get(section)
        if not sections(hint):
            return base  # the parser reports an unknown setting
        part = getattr(part, section)
        if part is None:
            added: dict[str, Any] = {}
            _put(added, path[:depth], {})
            return _with_part(read(base, added), path)
    refuse_other_kind(hint, part, path[-1], ".".join(path[:-1]))
    return base


def _kinds(part: Any, path: str = "") -> list[str]:
    """A line for each part that has several kinds: its option and the names of its kinds."""
    lines = []
    for name, hint in hints(type(part)).items():
        option = f"{path}{name.replace('_', '-')}"
        known = [kind for section in sections(hint) for kind in kinds(section)]
        if sections(hint) and is_optional(hint):
            known.append("none")
        if len(known) > 1 and len(sections(hint)) + is_optional(hint) > 1:
            lines.append(f"--{option}.kind {{{','.join(known)}}}")
        elif known == ["none"]:
            lines.append(f"--{option} none")
        if sections(hint) and getattr(part, name) is not None:
            lines += _kinds(getattr(part, name), f"{option}.")
    return lines


def parse_train(command: Callable[[list[str]], int], base: Any, typed: list[str]) -> Any:
    """Parse ``_Options`` and every section; what is not typed has the preset's value."""
    declared = typing.get_type_hints(_Options, include_extras=True)
    defaults = dataclasses.asdict(_Options(task=base.task, seed=str(base.seed)))
    fields: list[tuple[str, Any, Any]] = [
        (name, kind, dataclasses.field(default=defaults[name])) for name, kind in declared.items()
    ]
    declared = hints(Config)
    for f in settings_fields():
        fields.append((f.name, declared[f.name], dataclasses.field(default=getattr(base, f.name))))
    description = "\n".join(
        [inspect.getdoc(command) or "", "", "Parts with kinds, each with options of its own:"]
        + [f"    {line}" for line in _kinds(base)]
    )
    return tyro.cli(
        dataclasses.make_dataclass("Train", fields, frozen=True),
        prog="worldmodel train",
        description=description,
        args=typed,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
        registry=_spelled_as_in_yaml(),
    )


def _spelled_as_in_yaml() -> tyro.constructors.ConstructorRegistry:
    """Read booleans as YAML spells them, and several numbers as ``0,1``."""
    spelled = {"true": True, "True": True, "false": False, "False": False}
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(
        asked: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[bool] | None:
        if asked.type is not bool:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="{true,false}",
            instance_from_str=lambda words: spelled[words[0]],
            is_instance=lambda value: isinstance(value, bool),
            str_from_instance=lambda value: [str(value).lower()],
            choices=tuple(spelled),
        )

    @registry.primitive_rule
    def numbers(
        asked: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[tuple[int, ...]] | None:
        if asked.type != tuple[int, ...]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="N[,N...]",
            instance_from_str=lambda words: read_numbers(words[0], "numbers"),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(map(str, value))],
        )

    return registry


def read_seeds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"seed: expected a number or several like 0,1,2; got {text}")
    return list(dict.fromkeys(int(word) for word in words))
