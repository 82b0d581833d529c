"""What ``worldmodel train`` says of itself: its options, and each setting with its sentence.

``python -m worldmodel.cli.settings_help`` writes the same as the page docs/settings.md; a test
compares it with the settings.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel import files
from worldmodel.checks import (
    ConfigError,
    bounds,
    hints,
    in_words,
    kinds,
    nearest,
    options,
    sections,
)
from worldmodel.cli.settings import Setting, Shown, TrainOptions, read_words, settings_in
from worldmodel.cli.settings_table import sentence_of, settings_tree
from worldmodel.columns import aligned

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
WIDTH = 100
GENERAL = "general"  # the section of settings that are in no section

HELP = """\
usage: worldmodel train [PRESET] [--option VALUE ...] [--section.setting VALUE ...]

{description}

options:
{options}

Every setting is an option too, such as --planner.horizon 8. All of them, each with a sentence:
    worldmodel train --help-settings
    worldmodel train planet --help-settings planner

{examples}
"""

HEAD = """\
# Settings

Every setting of a run, with its default. A preset (a YAML file) holds those that differ:
`planner: {horizon: 8}`. On the command line they are options: `--planner.horizon 8`. Names in
brackets are the kinds that have a setting: `planner.min_std` belongs to `planner.kind: mppi`.
The same list on the screen: `worldmodel train --help-settings`. This page is written by
`python -m worldmodel.cli.settings_help`.
"""


@dataclass(frozen=True)
class Explained:
    """A setting as it is shown. ``of`` names the kinds that have it; empty: all have it."""

    path: str
    value: str
    allowed: str
    sentence: str
    of: tuple[str, ...]


def asked_for_help(command: Callable[[list[str]], int], typed: Sequence[str]) -> str:
    """The help that the words ask for; empty if they do not."""
    if "--help-settings" in typed:
        at = list(typed).index("--help-settings")
        section = typed[at + 1] if at + 1 < len(typed) else ""
        named = not section.startswith("--") and section != ""
        others = [*typed[:at], *typed[at + 1 + named :]]
        asked = read_words(others, settings_tree())
        return settings_text(asked.configs[0], section if named else "")
    if "--help" in typed or "-h" in typed:
        return train_text(command)
    return ""


def train_text(command: Callable[[list[str]], int]) -> str:
    """The short help: the options of ``train``, and where the settings are."""
    description, _, examples = (inspect.getdoc(command) or "").partition("Example:")
    rows = []
    for name, hint in hints(TrainOptions).items():
        shown = next(note for note in hint.__metadata__ if isinstance(note, Shown))
        option = f"--{name.replace('_', '-')}"
        takes = "" if options(hint) == [bool] else f" {shown.value}"
        rows.append((shown.value if name == "preset" else f"{option}{takes}", shown.sentence))
    return HELP.format(
        description=description.strip(),
        options=aligned(rows, indent="    "),
        examples=f"Example:{examples}".rstrip(),
    )


def settings_text(tree: Any, section: str = "") -> str:
    """All settings, or those of one section, for a screen."""
    lines = []
    for name, explained in by_section(tree, section).items():
        lines += [name, ""]
        for shown in explained:
            notes = [", ".join(shown.of)] * bool(shown.of) + [shown.allowed]
            lines.append(f"  --{shown.path} {shown.value}  ({'; '.join(notes)})")
            lines += textwrap.wrap(
                shown.sentence, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """The page of all settings, in Markdown."""
    parts = [HEAD]
    for name, explained in by_section(settings_tree()).items():
        parts.append(f"## {name}\n\n| setting | default | allowed | what it does |")
        parts.append("|---|---|---|---|")
        for shown in explained:
            of = f" ({', '.join(shown.of)})" if shown.of else ""
            cells = [f"`{shown.path}`{of}", f"`{shown.value}`", shown.allowed, shown.sentence]
            parts.append(f"| {' | '.join(cell.replace('|', ' or ') for cell in cells)} |")
        parts.append("")
    return "\n".join(parts)


def by_section(tree: Any, section: str = "") -> dict[str, list[Explained]]:
    """The settings of each section; ``section``: only those whose path begins with it."""
    by_name: dict[str, list[Explained]] = {}
    for shown in _merged(explain(setting) for setting in settings_in(tree)):
        name = shown.path.split(".")[0] if "." in shown.path else GENERAL
        if section in ("", name) or f"{shown.path}.".startswith(f"{section.replace('-', '_')}."):
            by_name.setdefault(name, []).append(shown)
    if not by_name:
        known = list(by_section(tree))
        raise ConfigError(f"no section of settings {section}{nearest(section, known)}")
    return by_name


def explain(setting: Setting) -> Explained:
    """The value of a setting, what it may be, and its sentence."""
    hint = hints(type(setting.part))[setting.name]
    if variants := sections(hint):
        names = [kind for variant in variants for kind in kinds(variant)]
        allowed = f"one of {', '.join([*names, 'none'] if type(None) in options(hint) else names)}"
        if not names:
            allowed = "its settings, or none"
    else:
        allowed = in_words(hint)
        if limits := " and ".join(bound.expected for bound in bounds(hint)):
            allowed = allowed.replace("number", f"number, {limits}")
    return Explained(
        setting.path,
        _as_typed(setting.value),
        allowed,
        sentence_of(setting.part, setting.name),
        setting.of,
    )


def _merged(rows: Iterable[Explained]) -> list[Explained]:
    """Join rows that differ only in the kind that has the setting."""
    merged: dict[Explained, list[str]] = {}
    for row in rows:
        merged.setdefault(dataclasses.replace(row, of=()), []).extend(row.of)
    return [dataclasses.replace(row, of=tuple(of)) for row, of in merged.items()]


def _as_typed(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


if __name__ == "__main__":
    files.write(PAGE, page().encode())
