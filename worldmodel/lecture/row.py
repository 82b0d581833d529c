"""A row of the lecture: one claim, how it is measured, and the bounds that it must keep."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worldmodel.checks import ConfigError, nearest
from worldmodel.compare_settings import settings_hash
from worldmodel.config import Config
from worldmodel.lecture import rows


@dataclass(frozen=True)
class Bound:
    """What a figure must be: at least, or at most, a number."""

    sign: str  # ">=" or "<="
    number: float

    def __str__(self) -> str:
        return f"{self.sign} {self.number:g}"

    def holds(self, value: float) -> bool:
        """Whether the figure keeps the bound; NaN keeps none."""
        return value >= self.number if self.sign == ">=" else value <= self.number


def at_least(number: float) -> Bound:
    return Bound(">=", number)


def at_most(number: float) -> Bound:
    return Bound("<=", number)


@dataclass(frozen=True)
class Row:
    """A claim of the lecture as an experiment.

    ``measure(seed, broken)`` runs it on one core and returns its figures by name. With ``broken``
    the part does not work that the claim is about. Figures without a bound are baselines.
    """

    name: str
    idea: str  # the claim, in one line
    broken: str  # what is broken in the twin
    passes: Mapping[str, Bound]  # by the figure's name
    reds: tuple[str, ...]  # figures of which at least one must break its bound in the twin
    short: bool  # a few minutes: three seeds are kept; else one
    settings: Config | Mapping[str, Any]
    measure: Callable[[int, bool], Mapping[str, float]]

    def __post_init__(self) -> None:
        unknown = [name for name in self.reds if name not in self.passes]
        if not self.reds or unknown:
            raise ValueError(f"{self.name}: reds: expected names of passes, got {self.reds}")

    @property
    def hash(self) -> str:
        """A hash of twelve letters of its settings."""
        if isinstance(self.settings, Config):
            return settings_hash(self.settings)
        text = json.dumps(dict(self.settings), sort_keys=True, default=_written)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def fails(self, figures: Mapping[str, float]) -> list[str]:
        """The names of the figures that break their bounds, or are missing."""
        found = {name: figures.get(name, math.nan) for name in self.passes}
        return [name for name, bound in self.passes.items() if not bound.holds(found[name])]

    def is_as_claimed(self, figures: Mapping[str, float], broken: bool) -> bool:
        """Whether the row keeps its bounds, or the twin breaks one that it must break."""
        failed = self.fails(figures)
        return any(name in self.reds for name in failed) if broken else not failed


def names() -> list[str]:
    """The names of all rows."""
    return sorted(module.name for module in pkgutil.iter_modules(rows.__path__))


def row_of(name: str) -> Row:
    if name not in names():
        raise ConfigError(f"lecture: no row {name}{nearest(name, names())}")
    row: Row = importlib.import_module(f"{rows.__name__}.{name}").ROW
    assert row.name == name, f"rows/{name}.py holds the row {row.name}"
    return row


def _written(settings: Any) -> Any:
    """Settings inside of others, for JSON."""
    return dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else str(settings)  # type: ignore[arg-type]
