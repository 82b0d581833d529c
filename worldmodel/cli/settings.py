"""Every setting is an option of ``worldmodel train``, and a preset says what is not typed."""

from __future__ import annotations

import dataclasses
import importlib.util
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
    refuse_other_kind,
    sections,
)
from worldmodel.config import Config
from worldmodel.presets import load_preset, presets


@dataclass(frozen=True)
class _Options:
    """What ``train`` takes beside the settings."""

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
    """The first that is no option and no option's value; each option takes one value."""
    waiting = False  # the option before has no value yet
    for token in typed:
        if token.startswith("--") or token == "-h":
            waiting = "=" not in token and token not in ("-h", "--help")
        elif waiting:
            waiting = False
        else:
            return token
    return None


def starting_point(word: str) -> tuple[str, Config]:
    """The preset's name and its settings; a task's name means the default preset on that task."""
    shipped = presets()
    names_a_file = word.endswith((".yaml", ".yml")) or "/" in word
    if word in shipped or (names_a_file and not word.startswith("gym:")):
        return word, load_preset(word)
    if word == "toy" or word.startswith("gym:") or word in (known := _suite_tasks(word)):
        return "default", dataclasses.replace(load_preset("default"), task=word)
    raise ConfigError(f"no preset or task {word}{nearest(word, [*shipped, 'toy', *known])}")


def _suite_tasks(word: str) -> list[str]:
    """The simulator's tasks; none where it cannot know the word, for it is slow to load."""
    near_preset = "did you mean" in nearest(word, list(presets()))
    if importlib.util.find_spec("dm_control") is None or ("_" not in word and near_preset):
        return []
    from worldmodel.envs.suite import suite_tasks

    return list(suite_tasks())


def settings_fields() -> list[dataclasses.Field[Any]]:
    """Of the configuration, without what ``_Options`` says in its own way."""
    return [f for f in dataclasses.fields(Config) if f.name not in ("task", "seed")]


def choose_kinds(base: Config, typed: Sequence[str]) -> tuple[Any, list[str]]:
    """The sections of ``base`` with the kinds that were typed, and the words that say the rest.

    Which options there are follows from the kinds, so these are read first, like a preset:
    ``--planner.kind cem``, ``--model.value none``. A part that is absent in ``base`` is present
    once a setting of it is typed. The sections come as a record that is no ``Config``, because
    whether they fit each other is known only once the other words are read.
    """
    said: dict[str, Any] = {}
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
            left.append(word)  # the parser says that its value is missing
        else:
            _put(said, path, "none" if kind.lower() == "none" else kind)
    sections_of = dataclasses.make_dataclass("Sections", list(hints(Config).items()), frozen=True)
    chosen = read(sections_of(**vars(base)), said)
    for path in options:
        chosen = _with_part(chosen, path)
    return chosen, left


def _chooses(path: Sequence[str]) -> bool:
    """Whether an option names a kind, or a part itself instead of one of its settings."""
    part = _declared(path[:-1])
    has_kinds = len(sections(part)) > 1 or is_optional(part)
    return bool(sections(_declared(path))) or (path[-1] == "kind" and has_kinds)


def _declared(path: Sequence[str]) -> Any:
    """The type of a part or setting in whichever kinds have it; None where none has."""
    hint: Any = Config
    for name in path:
        found = [hints(section)[name] for section in sections(hint) if name in hints(section)]
        if not found:
            return None
        hint = found[0]
    return hint


def _put(said: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """``{"a": {"b": value}}`` for the path a.b, beside what is said already."""
    for name in path[:-1]:
        if not isinstance(said.get(name), dict):
            said[name] = {}
        said = said[name]
    said[path[-1]] = value


def _with_part(base: Any, path: Sequence[str]) -> Any:
    """``base`` with the part that a typed option is of; what has another place is refused."""
    if _declared(path) is None and (name := ".".join(path)) in RENAMED:
        raise ConfigError(f"{name}: renamed; write {RENAMED[name]}")
    part: Any = base
    hint: Any = Config
    for depth, section in enumerate(path[:-1], start=1):
        hint = hints(type(part)).get(section)
        if not sections(hint):
            return base  # the parser answers what is no setting at all
        part = getattr(part, section)
        if part is None:
            said: dict[str, Any] = {}
            _put(said, path[:depth], {})
            return _with_part(read(base, said), path)
    refuse_other_kind(hint, part, path[-1], ".".join(path[:-1]))
    return base


def _kinds(part: Any, path: str = "") -> list[str]:
    """A line for each part of which there are several kinds: its option, and what it takes."""
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
    """``_Options`` and every section, with the preset's values where nothing is typed."""
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
        registry=_true_and_false(),
    )


def _true_and_false() -> tyro.constructors.ConstructorRegistry:
    """Spelled as in YAML."""
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

    return registry


def read_seeds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"seed: expected a number or several like 0,1,2; got {text}")
    return list(dict.fromkeys(int(word) for word in words))
