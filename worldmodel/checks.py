"""Checks of settings: bounds declared in types, the strict reader, and the error that both raise.

A setting is a field of a frozen dataclass. Its bound is declared in its type, a rule between two
fields in the dataclass's ``check(path)``. The function ``check`` applies both to a tree of
dataclasses::

    @dataclass(frozen=True)
    class CEM:
        kind: Literal["cem"] = "cem"
        candidates: Annotated[int, at_least(1)] = 1000
        elites: Annotated[int, at_least(1)] = 100

        def check(self, path: str) -> None:
            require(self.elites <= self.candidates, f"{path}.elites: expected at most ...")

A field whose type is a union of dataclasses is a part with several kinds. The field ``kind`` of
each distinguishes them, and the union is the only list of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

T = TypeVar("T")

# looked up once a class: it would take 28 of the 30 ms of reading a preset
_HINTS: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()

# Old names of settings, and their new names. `read` looks here before it suggests a similar name.
RENAMED: dict[str, str] = {
    "model.dynamics.layers": "model.layers",
    "objective.image": "objective.image.weight",
    "objective.reward": "objective.reward.weight",
    "objective.vectors": "objective.vectors.weight",
    "objective.discount": "objective.discount.weight",
    "objective.kl_dynamics": "objective.kl.dynamics",
    "objective.kl_representation": "objective.kl.representation",
    "objective.free_nats": "objective.kl.free_nats",
    "objective.decoded_share": "objective.image.decoded_share",
    "imagination": "behaviour",
    "imagination.starts": "behaviour.imagined_states",
    "imagination.horizon": "behaviour.horizon",
    "imagination.trace": "behaviour.return_lambda",
    "imagination.entropy": "behaviour.entropy",
    "imagination.strain": "behaviour.saturation",
    "imagination.target_rate": "behaviour.target_rate",
    "learner.value_rate": "behaviour.value_rate",
    "learner.policy_rate": "behaviour.policy_rate",
    "planner.max_std": "planner.initial_std",
    "planner.kept_share": "planner.elites_kept",
    "planner.proposals": "planning.proposals",
    "planner.free_std": "planning.std_without_policy",
    "planner.warm_start": "planning.warm_start",
    "planner.sampled": "planning.sampled",
    "planner.precision": "planning.precision",
    "replay.draws": "replay.tournament",
    "learner.settle": "learner.decay_after",
    "learner.averaging": "learner.average_rate",
    "loop.together": "loop.episodes_at_once",
    "loop.noise": "exploration.size",
    "loop.noise_memory": "exploration.memory",
    "loop.noise_swell": "exploration.swell",
}


class ConfigError(ValueError):
    """A setting is impossible; the message says which, what was expected and what was given."""


def require_device(device: str, remedy: str) -> None:
    """Raise unless torch can compute there; ``remedy`` is what to type instead."""
    require(
        re.fullmatch(r"cpu|cuda(:\d+)?", str(device)) is not None,
        f"device: expected cpu, cuda or one of several, as cuda:1; got {device!r}",
    )
    if str(device) != "cpu":
        import torch  # it takes seconds, and reading settings needs none

        require(
            torch.cuda.is_available(),
            f"device: torch {torch.__version__} sees no cuda here; use {remedy}",
        )
        number = int(str(device).partition(":")[2] or 0)
        count = torch.cuda.device_count()
        require(number < count, f"device: torch sees {count} of them here; got {device!r}")


def require(condition: bool, message: str) -> None:
    """Raise ``ConfigError`` with this message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def nearest(name: str, known: Sequence[str], path: str = "") -> str:
    """``; did you mean x?`` if a known name is similar, else the list of all known names."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    if close:
        return f"; did you mean {path}{close[0]}?"
    return f"; known: {', '.join(sorted(known))}"


@dataclass(frozen=True)
class Bound:
    """A bound of a number: it lies between ``low`` and ``high``.

    ``with_low`` and ``with_high``: these numbers themselves are allowed.
    """

    low: float
    high: float = math.inf
    with_low: bool = True
    with_high: bool = True

    def holds(self, value: float) -> bool:
        above = self.low <= value if self.with_low else self.low < value
        return above and (value <= self.high if self.with_high else value < self.high)

    @property
    def expected(self) -> str:
        """The bound in words."""
        if self.with_low and self.with_high and self.high < math.inf:
            return f"{self.low} to {self.high}"
        words = f"{self.low} or more" if self.with_low else f"more than {self.low}"
        if self.high < math.inf:
            words += f", at most {self.high}" if self.with_high else f", less than {self.high}"
        return words


def at_least(low: float, *, below: float = math.inf) -> Bound:
    return Bound(low, below, with_high=below == math.inf)


def more_than(low: float, *, at_most: float = math.inf) -> Bound:
    return Bound(low, at_most, with_low=False)


def between(low: float, high: float) -> Bound:
    return Bound(low, high)


class Typed(str):
    """The value of a setting as somebody typed it: text, whatever the setting's type."""

    __slots__ = ()


def hints(kind: type) -> dict[str, Any]:
    """The declared types of a dataclass's fields, bounds included."""
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def options(hint: Any) -> list[Any]:
    """The types of a union, without bounds: ``Annotated[int | None, ...]`` -> int and None."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return options(typing.get_args(hint)[0])
    if origin in (types.UnionType, typing.Union):
        return [kind for option in typing.get_args(hint) for kind in options(option)]
    return [hint]


def bounds(hint: Any) -> list[Bound]:
    """All bounds in a type hint, also inside of a union."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *notes = typing.get_args(hint)
        return [*bounds(inner), *(note for note in notes if isinstance(note, Bound))]
    if origin in (types.UnionType, typing.Union):
        return [bound for option in typing.get_args(hint) for bound in bounds(option)]
    return []


def sections(hint: Any) -> list[type]:
    """The dataclasses of a type hint: several for a part with kinds, none for a number."""
    return [
        kind for kind in options(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ]


def kinds_of_parts(section: Any) -> dict[str, str]:
    """The kind of each part that has kinds, by the part's name; ``none`` if the part is absent."""
    by_name = {}
    for name, hint in hints(type(section)).items():
        if any(kinds(variant) for variant in sections(hint)):
            part = getattr(section, name)
            own = type(part).__name__  # for a part of your own without a kind
            by_name[name] = "none" if part is None else str(getattr(part, "kind", own))
    return by_name


def is_optional(hint: Any) -> bool:
    return types.NoneType in options(hint)


def kinds(section: type) -> tuple[str, ...]:
    """The values of a dataclass's field ``kind``; empty if it has no such field."""
    hint = hints(section).get("kind")
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def check(part: Any, path: str = "") -> None:
    """Raise for the first setting of a tree that breaks its bound or a rule of its dataclass."""
    prefix = f"{path}." if path else ""
    declared = hints(type(part))
    for f in dataclasses.fields(part):
        value, where, hint = getattr(part, f.name), f"{prefix}{f.name}", declared[f.name]
        if dataclasses.is_dataclass(value):
            check(value, where)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: expected a finite number, got {value}")
        elif value is not None:
            or_none = ", or none" if is_optional(hint) else ""
            for bound in bounds(hint):
                if not bound.holds(value):
                    raise ConfigError(f"{where}: expected {bound.expected}{or_none}, got {value}")
    if hasattr(part, "check"):
        part.check(path)


def read(base: T, differences: Mapping[str, Any], path: str = "") -> T:
    """``base`` with the differences of a preset; raise for an unknown name or a wrong type.

    A part whose ``kind`` differs from the base's starts from that kind's own defaults. An optional
    part becomes None if the preset says ``none``.
    """
    declared = hints(type(base))
    known = [f.name for f in dataclasses.fields(base)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in differences.items():
        where = f"{path}{name}"
        if name not in known:
            # a number whose place a section took is renamed only where that section is
            if where in RENAMED and not RENAMED[where].startswith(f"{where}."):
                raise ConfigError(f"{where}: renamed; write {RENAMED[where]}")
            raise ConfigError(f"{where}: no such setting{nearest(str(name), known, path)}")
        if sections(declared[name]):
            changes[name] = _read_section(declared[name], getattr(base, name), value, where)
        else:
            changes[name] = convert(value, declared[name], where)
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _read_section(hint: Any, current: Any, value: Any, where: str) -> Any:
    optional = is_optional(hint)
    if optional and isinstance(value, Mapping) and _says_none(value.get("kind", "")):
        require(len(value) == 1, f"{where}: absent by its kind none, and settings are given for it")
        return None
    if optional and _says_none(value):
        return None
    if not isinstance(value, Mapping):
        if where in RENAMED:
            raise ConfigError(f"{where}: renamed; write {RENAMED[where]}")
        raise ConfigError(
            f"{where}: expected a section of settings{', or none' if optional else ''},"
            f" got {_shown(value)}"
        )
    base = _of_kind(hint, current, value.get("kind"), where)
    for name in value:
        refuse_other_kind(hint, base, str(name), where)
    return read(base, value, f"{where}.")


def refuse_other_kind(hint: Any, part: Any, name: str, where: str) -> None:
    """Raise if ``name`` is not a setting of ``part``, but of another kind of this part."""
    known = list(hints(type(part)))
    variants = [variant for variant in sections(hint) if name in hints(variant)]
    if name not in known and variants and hasattr(part, "kind"):
        having = " and ".join(kind for variant in variants for kind in kinds(variant))
        raise ConfigError(
            f"{where}.{name}: a setting of {having}, and {where}.kind is {part.kind}"
            f"{nearest(name, known, f'{where}.')}"
        )


def _of_kind(hint: Any, current: Any, kind: Any, where: str) -> Any:
    """``current`` if it is of that kind, else the defaults of that kind."""
    variants = sections(hint)
    if kind is None or (current is not None and kind in kinds(type(current))):
        if current is not None:
            return current
        if len(variants) == 1:
            return variants[0]()
    for variant in variants:
        if kind in kinds(variant):
            return variant()
    known = [name for variant in variants for name in kinds(variant)]
    if not known:  # a section without variants: `read` says that it has no kind
        return current if current is not None else variants[0]()
    known += ["none"] if is_optional(hint) else []
    raise ConfigError(f"{where}.kind: expected one of {', '.join(known)}; got {kind!r}")


def read_numbers(value: Any, where: str) -> tuple[int, ...]:
    """Whole numbers: a list of YAML, or text such as ``0,1``."""
    given = value.split(",") if isinstance(value, str) else value
    given = list(given) if isinstance(given, list | tuple) else [given]
    words = [str(number).strip() for number in given if not isinstance(number, bool)]
    if words == [""]:
        return ()
    if len(words) < len(given) or not all(word.isdecimal() for word in words):
        raise ConfigError(f"{where}: expected whole numbers such as 0,1; got {value!r}")
    return tuple(int(word) for word in words)


def convert(value: Any, hint: Any, where: str) -> Any:
    """Convert a value to its declared type: YAML reads 1e-3 as text, and 1 if 1.0 is meant."""
    if is_optional(hint) and _says_none(value):
        return None
    kind = next(option for option in options(hint) if option is not types.NoneType)
    got = _shown(value)
    if isinstance(value, Typed):
        value = _from_text(value, kind)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{where}: expected {in_words(hint)}; got {value!r}")
        return value
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif kind is int and isinstance(value, (int, float)) and not isinstance(value, bool):
        if float(value).is_integer():
            return int(value)
    elif kind == tuple[int, ...]:
        return read_numbers(value, where)
    elif (kind is str and isinstance(value, str)) or (kind is bool and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {in_words(hint)}, got {got}")


def _says_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.lower() == "none")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Typed) else f"{type(value).__name__} {value!r}"


def _from_text(text: Typed, kind: Any) -> Any:
    """What typed text means for a setting of this type; the text itself if it means nothing."""
    if typing.get_origin(kind) is Literal:
        return next((known for known in typing.get_args(kind) if str(known) == text), str(text))
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), str(text))
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            return float(text)
    return str(text)


def in_words(hint: Any) -> str:
    """What a setting of this type may be: ``a whole number, or none``."""
    kind = next(option for option in options(hint) if option is not types.NoneType)
    or_none = ", or none" if is_optional(hint) else ""
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}{or_none}"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        tuple[int, ...]: "whole numbers such as 0,1",
    }
    return f"{words.get(kind, getattr(kind, '__name__', kind))}{or_none}"
