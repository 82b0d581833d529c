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

from worldmodel.checks import ConfigError, nearest
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


def parse_train(command: Callable[[list[str]], int], base: Config, typed: list[str]) -> Any:
    """``_Options`` and every section, with the preset's values where nothing is typed."""
    kinds = typing.get_type_hints(_Options, include_extras=True)
    defaults = dataclasses.asdict(_Options(task=base.task, seed=str(base.seed)))
    fields: list[tuple[str, Any, Any]] = [
        (name, kind, dataclasses.field(default=defaults[name])) for name, kind in kinds.items()
    ]
    kinds = typing.get_type_hints(Config)
    for f in settings_fields():
        fields.append((f.name, kinds[f.name], dataclasses.field(default=getattr(base, f.name))))
    return tyro.cli(
        dataclasses.make_dataclass("Train", fields, frozen=True),
        prog="worldmodel train",
        description=inspect.getdoc(command),
        args=typed,
        config=(tyro.conf.FlagConversionOff,),
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
