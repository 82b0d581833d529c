"""The page of a report: one HTML file that holds its pictures, video and numbers.

The page loads nothing from elsewhere (its content security policy forbids it), needs no script,
fits a phone, and follows the reader's choice of light or dark. One script may run: with it a click
in a ``Picker`` writes a command.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from worldmodel.report.palette import DARK, LIGHT
from worldmodel.report.strips import Strip
from worldmodel.report.templates import HERE, render


@dataclass(frozen=True)
class Picture:
    """A PNG, with a second one for a dark page."""

    light: bytes
    dark: bytes
    alt: str  # a description for those who do not see it

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, from the first chunk of the PNG."""
        width, height = struct.unpack(">II", self.light[16:24])
        return width, height


@dataclass(frozen=True)
class Chart:
    """The panels of a figure: next to each other, or below each other on a small screen."""

    panels: Sequence[Picture]
    kind: ClassVar = "chart"


@dataclass(frozen=True)
class Tiles:
    """A strip whose images are single tiles, so that a small screen can show fewer columns."""

    strip: Strip
    images: Sequence[Sequence[bytes]]  # a PNG for each image of each row
    kind: ClassVar = "tiles"


@dataclass(frozen=True)
class Video:
    name: str
    content: bytes  # mp4 or GIF, by its name's ending
    poster: bytes  # a PNG, because phones show no image of a video before it is played
    alt: str

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: ClassVar = "table"


@dataclass(frozen=True)
class Picker:
    """A picture of large pixels: two clicks write the command that brings one to the other."""

    image: bytes  # a PNG, a pixel each
    height: int
    width: int
    command: str  # that the words --pixel R,C --to R,C are added to
    pixel: tuple[int, int]  # where it begins: row and column
    goal: tuple[int, int]
    kind: ClassVar = "picker"


Part = Chart | Tiles | Video | Table | Picker


@dataclass(frozen=True)
class Section:
    """A heading, what is seen, how to read it, and the parts."""

    title: str
    seen: str  # one sentence
    reading: str  # one sentence
    parts: Sequence[Part]
    more: str = ""  # folded


@dataclass(frozen=True)
class Verdict:
    """A judgement in words, with a colour and a sign."""

    words: str
    level: Literal["good", "mixed", "bad"]

    @property
    def sign(self) -> str:
        return {"good": "✓", "mixed": "◐", "bad": "✗"}[self.level]


@dataclass(frozen=True)
class Fact:
    """A number with its name, at the top of the page."""

    name: str
    value: str
    comparison: str = ""  # other numbers to compare it with
    verdict: Verdict | None = None


MOST_OF_HEAD = 2000  # bytes; the line is one of the first
# The browser may load nothing from outside the file, and runs no script but that of pickers
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
PICK = (HERE / "pick.js").read_text()


def write_page(
    title: str,
    lead: str,
    facts: Sequence[Fact],
    sections: Sequence[Section],
    notes: Sequence[str] = (),
    settings: str = "",
    seconds: float = 0.0,
) -> str:
    """The HTML of the page. ``notes``: what is missing, and how to get it.

    ``seconds``: how long it took to draw; ``drawn_in`` reads it from the page.
    """
    has_picker = any(part.kind == "picker" for section in sections for part in section.parts)
    return render(
        "page.html",
        title=title,
        lead=lead,
        facts=facts,
        sections=sections,
        notes=notes,
        settings=settings,
        policy=f"{POLICY}; script-src '{_hash(PICK)}'" if has_picker else POLICY,
        script=PICK if has_picker else "",
        seconds=math.ceil(seconds),
        light=vars(LIGHT),
        dark=vars(DARK),
        uri=_uri,
    )


def drawn_in(page: bytes) -> float | None:
    """The seconds that a page says it took to draw; None if it does not say so."""
    said = re.search(rb'<meta name="drawn-in-seconds" content="(\d+)">', page[:MOST_OF_HEAD])
    return float(said[1]) if said else None


def _hash(script: str) -> str:
    """The name by which a policy allows one script, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
