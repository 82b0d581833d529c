"""The words after ``worldmodel train``: its own options, and every setting as --section.key VALUE.

They are read twice by the same functions. First into the tree of ``settings_table``, without torch,
so that a mistake is answered at once; then into ``Config``, which also knows the rules between
settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from worldmodel import older_settings
from worldmodel.checks import (
    RENAMED,
    ConfigError,
    Typed,
    check,
    convert,
    hints,
    is_optional,
    kinds,
    nearest,
    options,
    read,
    sections,
)
from worldmodel.cli.tasks import known_tasks
from worldmodel.compare_settings import unsaid
from worldmodel.presets import is_of_a_run, mapping_in, preset_file, preset_on, presets

T = TypeVar("T")


class Shown(NamedTuple):
    """How ``train --help`` shows an option: the name of its value, and a sentence."""

    value: str
    sentence: str


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``train`` that are not settings. One that is a bool takes no value."""

    preset: Annotated[str, Shown("PRESET", "a preset's name, a YAML file, or a task")] = "default"
    task: Annotated[str, Shown("TASK", "one of `worldmodel tasks`, or gym:ID")] = ""
    run: Annotated[
        str | None, Shown("DIR", "the folder of the run; default: runs/PRESET-TASK-SEED")
    ] = None
    steps: Annotated[
        int | None,
        Shown("N", "end after N simulator steps in total; rounds are whole, so a little later"),
    ] = None
    minutes: Annotated[float | None, Shown("M", "end after M minutes in total")] = None
    seed: Annotated[
        str | None, Shown("S[,S...]", "several seeds are trained one after another")
    ] = None
    device: Annotated[Literal["cpu", "cuda"], Shown("cpu|cuda", "where the model learns")] = "cpu"
    dry_run: Annotated[
        bool, Shown("", "say what time, memory and disk the run needs here, and write nothing")
    ] = False
    anew: Annotated[
        bool, Shown("", "rename an older run in that folder to NAME.old-1, and begin a new one")
    ] = False


@dataclass(frozen=True)
class Asked(Generic[T]):
    """What was asked for: the options, the name of the starting point, the settings of each run."""

    options: TrainOptions
    preset: str
    base: T
    configs: list[T]


def read_words(typed: Sequence[str], defaults: T) -> Asked[T]:
    """Read the words into ``defaults``, a tree of all settings; raise for the first mistake."""
    given, settings = _split(typed, defaults)
    declared = {name: options(hint)[0] for name, hint in hints(TrainOptions).items()}
    own = TrainOptions(
        **{name: convert(value, declared[name], name) for name, value in given.items()}
    )
    preset, base = starting_point(own.preset, defaults)
    if own.preset == getattr(base, "task", "") != preset and own.task not in ("", own.preset):
        raise ConfigError(f"task: two are given, {own.preset} and --task {own.task}")
    task = own.task or getattr(base, "task", "")
    chosen = read(base, {**settings, "task": task})
    seeds = [getattr(base, "seed", 0)] if own.seed is None else read_seeds(own.seed)
    configs = [read(chosen, {"seed": seed}) for seed in seeds]
    for config in configs:
        check(config)
    return Asked(own, preset, base, configs)


def starting_point(word: str, defaults: T) -> tuple[str, T]:
    """The name and settings of a preset; a task's name means the default preset on that task."""
    _require_text(word)
    shipped = presets()
    names_a_file = word.endswith((".yaml", ".yml")) or "/" in word
    if word in shipped or (names_a_file and not word.startswith("gym:")):
        return word, preset_on(defaults, word)
    if word.startswith("gym:") or word in known_tasks():
        return "default", read(preset_on(defaults, "default"), {"task": word})
    raise ConfigError(f"no preset or task {word}{nearest(word, [*shipped, *known_tasks()])}")


def note_of_run(preset: str, base: Any) -> str:
    """What to know of a preset that is the config.yaml of a run; empty for any other."""
    if preset in presets():
        return ""
    path = preset_file(preset)
    written = mapping_in(path)
    if not is_of_a_run(written):
        return ""
    version = written.get("versions", {}).get("worldmodel", "an unknown version")
    drawn = written.get("environment", {}).get("renderer")
    images = f"; its images were drawn by {drawn}" if drawn else ""
    lacking = unsaid(base, older_settings.upgraded(written["settings"]))
    newer = f"; newer settings have today's defaults: {', '.join(lacking)}" if lacking else ""
    return (
        f"{path}: the settings of a run on {base.task}, seed {base.seed}, made with worldmodel"
        f" {version}{images}{newer}"
    )


def read_seeds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"seed: expected a number or several like 0,1,2; got {text}")
    return list(dict.fromkeys(int(word) for word in words))


def _split(typed: Sequence[str], defaults: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The typed options of ``train``, and the typed settings as a preset would nest them."""
    given: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    own = hints(TrainOptions)
    words = iter(typed)
    for word in words:
        _require_text(word)
        if not word.startswith("--"):
            if word.startswith("-"):
                raise ConfigError(f"no option {word}; options begin with --")
            if "preset" in given:
                raise ConfigError(f"expected one PRESET, got {given['preset']} and {word}")
            given["preset"] = Typed(word)
            continue
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        is_own = name in own and name != "preset"
        if is_own and options(own[name]) == [bool] and not equals:
            given[name] = True
            continue
        path = name.split(".")
        if not is_own:
            _require_known(option, path, defaults)
        if not equals:
            value = _value_after(option, words)
        if is_own:
            given[name] = Typed(value)
        else:
            _put(settings, path, Typed(value))
    return given, settings


def _value_after(option: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None or value.startswith("--"):
        raise ConfigError(f"{option.removeprefix('--')}: its value is missing: {option} VALUE")
    _require_text(value)
    return value


def _require_text(word: str) -> None:
    """Raise if a word is not UTF-8: neither a task nor a file of settings is named like that."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"expected words in UTF-8, got {word!a}") from None


def _require_known(option: str, path: Sequence[str], defaults: Any) -> None:
    """Raise if no kind of any part has such a setting; name a similar option."""
    if _declared(path, type(defaults)) is not None:
        return
    if (name := ".".join(path)) in RENAMED:
        raise ConfigError(f"{name}: renamed; write {RENAMED[name]}")
    names = sorted({f.name for f in dataclasses.fields(TrainOptions)} - {"preset"})
    names += sorted({setting.path for setting in settings_in(defaults)} - set(names))
    same = [f"--{known}" for known in names if known.split(".")[-1] == name]
    if same:
        raise ConfigError(f"no option {option}; did you mean {' or '.join(same)}?")
    suggestion = nearest(name, names, "--")
    if "did you mean" not in suggestion:
        suggestion = "; worldmodel train --help-settings lists all"
    raise ConfigError(f"no option {option}{suggestion}")


def _declared(path: Sequence[str], root: type) -> Any:
    """The type of a part or setting in the kinds that have it; None if none has."""
    hint: Any = root
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


class Setting(NamedTuple):
    """A setting of a tree: its path, its name in ``part``, its value, and the kinds that have it.

    A part with kinds is a setting too: ``planner.kind``, whose value is the kind that is used.
    ``of`` is empty if every kind of its part has it, or if its part has one kind only.
    """

    path: str
    part: Any
    name: str
    value: Any
    of: tuple[str, ...]


def settings_in(part: Any, path: str = "", of: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, also of the kinds that are not used."""
    declared = hints(type(part))
    for f in dataclasses.fields(part):
        where, value = f"{path}{f.name}", getattr(part, f.name)
        variants = sections(declared[f.name])
        if not variants:
            if f.name != "kind" or len(kinds(type(part))) != 1:  # said by the part that holds it
                yield Setting(where, part, f.name, value, of)
            continue
        if len(variants) > 1 or is_optional(declared[f.name]):
            has_kinds = any(kinds(variant) for variant in variants)
            used = "none" if value is None else getattr(value, "kind", "present")
            yield Setting(f"{where}.kind" if has_kinds else where, part, f.name, used, of)
        for variant in variants:
            inside = value if isinstance(value, variant) else variant()
            yield from settings_in(inside, f"{where}.", kinds(variant) if variants[1:] else of)
