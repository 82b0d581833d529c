"""Write the settings of earlier versions as the present one does, so that older runs are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from worldmodel.checks import RENAMED, hints, kinds, sections

HEADS = ("discount", "value", "policy")  # optional heads of a model
# Settings that earlier versions did not have, with the value that says what they did: an image of
# another shape was stretched, which leaves square ones as they are, env.camera drew alone, the
# decoder gave the colours themselves, the prior of a window's first row was predicted, and noise
# explored, whose size stayed. A part that was not there yet needs no line: none.
NOT_YET: Mapping[str, Any] = {
    "env": {"fit": "stretch", "cameras": []},
    "model": {"likelihood": "gaussian"},
    "objective": {"kl": {"first_row": "predicted"}},
    "planning": {"policy_rows": 4, "pessimism": 0.0},
    "exploration": {
        "kind": "noise",
        "last_size": None,
        "shrinks_over": 10_000,
        "curiosity": 0.0,
    },
}


def is_older(written: Mapping[str, Any]) -> bool:
    """True if any setting has a name of an earlier version.

    A term of the objective now has the former name of its weight. If its value is None, the term
    is absent and the setting is not old.
    """
    return any(path in RENAMED and value is not None for path, value in _leaves(written))


def upgraded(written: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings as the present version writes them.

    Former names become the present ones, and a setting that did not exist yet has the value that
    says what the earlier version did. Nothing else changes.
    """
    return _completed(_renamed(written) if is_older(written) else written, NOT_YET)


def _completed(written: Mapping[str, Any], not_yet: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with those that are lacking.

    A section that is absent, or of another kind, stays as it is.
    """
    if written.get("kind", not_yet.get("kind")) != not_yet.get("kind"):
        return dict(written)
    completed = dict(written)
    for name, value in not_yet.items():
        if not isinstance(value, Mapping):
            completed.setdefault(name, value)
        elif isinstance(written.get(name), Mapping):
            completed[name] = _completed(written[name], value)
    return completed


def _renamed(written: Mapping[str, Any]) -> dict[str, Any]:
    from worldmodel.config import Config  # imports torch, and today's names need none of this

    old = dict(_leaves(written))
    new = {RENAMED.get(path, path): value for path, value in old.items()}
    if "model.dynamics.hidden_size" in old:  # once one part with one size
        new["model.posterior.hidden_size"] = old["model.dynamics.hidden_size"]
    for head in HEADS:
        if old.get(f"model.{head}.kind") == "none":
            new = {**_without(new, f"model.{head}."), f"model.{head}": None}
    if new.get("model.discount", "learned") is None:
        new = {**_without(new, "objective.discount."), "objective.discount": None}
    if new.get("model.policy", "learned") is None:
        new = {**_without(new, "behaviour."), "behaviour": None}

    # Earlier versions wrote the settings of all planners into one section: keep those of its kind.
    planners = sections(hints(Config)["planner"])
    chosen = {name for p in planners if new.get("planner.kind") in kinds(p) for name in hints(p)}
    others = {f"planner.{name}" for p in planners for name in hints(p) if name not in chosen}
    return _nested({path: value for path, value in new.items() if path not in others})


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _without(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    return {path: value for path, value in settings.items() if not path.startswith(section)}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` -> ``{"a": {"b": 1}}``"""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split(".")
        part = tree
        for section in above:
            part = part.setdefault(section, {})
        part[name] = value
    return tree
