"""Checks of settings: bounds in types, and parts that are one of several kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from worldmodel.checks import (
    ConfigError,
    at_least,
    between,
    check,
    more_than,
    read,
    require,
)


@dataclass(frozen=True)
class Walk:
    kind: Literal["walk"] = "walk"
    pace: Annotated[float, more_than(0, at_most=1)] = 0.5
    legs: Annotated[int, at_least(1)] = 2
    rest: Annotated[int | None, at_least(1)] = None

    def check(self, path: str) -> None:
        require(self.legs != 3, f"{path}.legs: expected a number other than 3")


@dataclass(frozen=True)
class Swim:
    kind: Literal["swim"] = "swim"
    depth: Annotated[float, between(0.5, 3)] = 1.0
    legs: Annotated[int, at_least(0, below=4)] = 0


@dataclass(frozen=True)
class Bell:
    loud: bool = False


@dataclass(frozen=True)
class Animal:
    name: str = "any"
    moves: Walk | Swim = Walk(pace=0.25)
    sleeps: Walk | Swim | None = None
    bell: Bell | None = None
    collar: Bell | None = Bell(loud=True)


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (Walk(pace=0), "pace: expected more than 0, at most 1, got 0"),
        (Walk(pace=2), "pace: expected more than 0, at most 1, got 2"),
        (Walk(legs=0), "legs: expected 1 or more, got 0"),
        (Walk(rest=0), "rest: expected 1 or more, or none, got 0"),
        (Walk(pace=float("nan")), "pace: expected a finite number, got nan"),
        (Swim(depth=0.4), "depth: expected 0.5 to 3, got 0.4"),
        (Swim(legs=4), "legs: expected 0 or more, less than 4, got 4"),
        (Animal(moves=Walk(legs=3)), "moves.legs: expected a number other than 3"),
        (Animal(sleeps=Swim(depth=9)), "sleeps.depth: expected 0.5 to 3, got 9"),
    ],
    ids=str,
)
def test_a_broken_bound_is_answered_with_its_path(part: Any, answer: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check(part)
    assert str(raised.value) == answer


def test_settings_within_their_bounds_pass() -> None:
    check(Animal(moves=Swim(depth=3), sleeps=Walk(rest=1, pace=1)))


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ({"moves": {"legs": 4}}, Animal(moves=Walk(pace=0.25, legs=4))),
        ({"moves": {"kind": "walk"}}, Animal(moves=Walk(pace=0.25))),
        ({"moves": {"kind": "swim"}}, Animal(moves=Swim())),
        ({"moves": {"depth": 2, "kind": "swim"}}, Animal(moves=Swim(depth=2.0))),
        ({"sleeps": {"kind": "walk", "rest": 3}}, Animal(sleeps=Walk(rest=3))),
        ({"bell": {"loud": True}}, Animal(bell=Bell(loud=True))),
        ({"bell": {}}, Animal(bell=Bell())),
        ({"collar": "none"}, Animal(collar=None)),
        ({"collar": None}, Animal(collar=None)),
        ({"sleeps": {"kind": "none"}}, Animal()),
    ],
    ids=str,
)
def test_a_part_of_another_kind_starts_from_its_own_defaults(
    said: dict[str, Any], read_as: Animal
) -> None:
    assert read(Animal(), said) == read_as


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"moves": {"kind": "fly"}}, "moves.kind: expected one of walk, swim; got 'fly'"),
        ({"moves": {"kind": ["walk"]}}, "moves.kind: expected one of walk, swim; got ['walk']"),
        ({"moves": None}, "moves: expected a section of settings, got NoneType None"),
        ({"moves": "none"}, "moves: expected a section of settings, got str 'none'"),
        ({"sleeps": {"legs": 2}}, "sleeps.kind: expected one of walk, swim, none; got None"),
        ({"collar": 3}, "collar: expected a section of settings, or none, got int 3"),
        ({"collar": {"kind": "x"}}, "collar.kind: no such setting; known: loud"),
        (
            {"moves": {"depth": 1}},
            "moves.depth: a setting of swim, and moves.kind is walk; known: kind, legs, pace, rest",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_a_kind_is_answered_with_the_known_kinds(
    said: dict[str, Any], answer: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(Animal(), said)
    assert str(raised.value) == answer
