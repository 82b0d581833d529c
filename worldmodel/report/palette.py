"""The colours of the report: of its page, its strips of images and its charts, light and dark.

The lines of charts have Okabe and Ito's colours, which colour-blind people can distinguish.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Palette:
    """Each colour as #RRGGBB."""

    paper: str  # of the page
    card: str  # of a section, and so of its pictures
    ink: str
    quiet: str  # less important text
    line: str  # borders, grids, and the frame of an image, which may be as white as the card
    model: str  # the model's numbers; links, and the frame of an image that the model saw
    hold_last: str  # the last row repeated; published scores
    mean: str  # the mean of all rows; the truth
    neutral: str  # everything else


LIGHT = Palette(
    paper="#f6f6f4",
    card="#ffffff",
    ink="#222222",
    quiet="#62666c",
    line="#e2e2de",
    model="#0072b2",
    hold_last="#d55e00",
    mean="#009e73",
    neutral="#777777",
)
DARK = Palette(
    paper="#0f1115",
    card="#171a1f",
    ink="#e6e8eb",
    quiet="#9ba1aa",
    line="#2a2f37",
    model="#56b4e9",
    hold_last="#f0894a",
    mean="#3cc49e",
    neutral="#9aa0a8",
)
# for lines without a fixed meaning, such as many runs in one chart
SERIES = (LIGHT.model, LIGHT.hold_last, LIGHT.mean, "#cc79a7", "#e69f00", "#56b4e9")


def in_the_dark(colour: str) -> str:
    """The dark palette's colour for one of the light palette; any other stays as it is."""
    for part in fields(Palette):
        if getattr(LIGHT, part.name) == colour.lower():
            dark: str = getattr(DARK, part.name)
            return dark
    return colour
