"""One page that holds everything: pictures, video and numbers in a single file.

It asks nobody for anything (its own security policy forbids it), needs no script, fits a phone, and
follows the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import html
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from worldmodel.report.palette import DARK, LIGHT, Palette


@dataclass(frozen=True)
class Picture:
    """A PNG, with a second one for a dark page."""

    name: str
    light: bytes
    dark: bytes
    told: str  # for those who do not see it
    is_wide: bool = True  # on a small screen it is scrolled sideways rather than shrunk to it


@dataclass(frozen=True)
class Film:
    name: str
    content: bytes  # mp4 or GIF, by its name's ending
    poster: bytes  # a PNG: phones show nothing of a film before it is played
    told: str


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, how to read what stands below it, and that."""

    title: str
    text: str
    parts: Sequence[Picture | Film | Table]


@dataclass(frozen=True)
class Fact:
    """A number with its name, at the top of the page."""

    name: str
    value: str
    beside: str = ""  # what it is to be compared with


STYLE = """\
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0 0 .4rem; }
p { margin: 0 0 1rem; max-width: 44rem; }
.quiet, summary, footer { color: var(--quiet); font-size: .92rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 2rem; padding: 0; }
.facts div, section { background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; }
.facts div { padding: .8rem 1rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; }
dd b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dd span { color: var(--quiet); font-size: .82rem; }
section { padding: 1.3rem 1.3rem 1rem; margin: 0 0 1.25rem; }
figure { margin: 0 0 .8rem; overflow-x: auto; }
img, video { display: block; width: 100%; height: auto; border-radius: .3rem; }
figure:not(.wide) img { max-width: 44rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem 0 .25rem 1rem; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: nowrap; }
pre { overflow-x: auto; font-size: .82rem; }
ul { padding-left: 1.1rem; }
nav a { color: var(--model); text-decoration: none; margin-right: .9rem; white-space: nowrap; }
nav { line-height: 1.9; margin: 0 0 1.5rem; font-size: .95rem; }
"""

# Nothing may be fetched: what is not in the file does not exist for it
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def write_page(
    title: str,
    lead: str,
    facts: Sequence[Fact],
    sections: Sequence[Section],
    notes: Sequence[str] = (),
    settings: str = "",
) -> str:
    """The page, as text. ``notes``: what is missing, and how to have it."""
    tiles = "".join(
        f"<div><dt>{_text(fact.name)}</dt><dd><b>{_text(fact.value)}</b>"
        f"<span>{_text(fact.beside)}</span></dd></div>"
        for fact in facts
    )
    links = " ".join(
        f'<a href="#part{number}">{_text(section.title)}</a>'
        for number, section in enumerate(sections)
    )
    body = "".join(_section(number, section) for number, section in enumerate(sections))
    if notes:
        items = "".join(f"<li>{_text(note)}</li>" for note in notes)
        body += f"<section><h2>What is missing here</h2><ul>{items}</ul></section>"
    if settings:
        body += (
            "<section><details><summary>Every setting of the run</summary>"
            f"<pre>{_text(settings)}</pre></details></section>"
        )
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
{STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
<p class="quiet">{_text(lead)}</p>
<dl class="facts">{tiles}</dl>
<nav>{links}</nav>
{body}
</main>
</body>
</html>
"""


def _variables(palette: Palette) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in vars(palette).items())


def _section(number: int, section: Section) -> str:
    parts = "".join(_part(part) for part in section.parts)
    text = f"<p>{_text(section.text)}</p>"
    return f'<section id="part{number}"><h2>{_text(section.title)}</h2>{text}{parts}</section>\n'


def _part(part: Picture | Film | Table) -> str:
    if isinstance(part, Table):
        head = "".join(f"<th>{_text(column)}</th>" for column in part.columns)
        rows = "".join(
            f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in part.rows
        )
        return f"<figure><table><tr>{head}</tr>{rows}</table></figure>"
    if isinstance(part, Film):
        if part.name.endswith(".gif"):
            inside = f'<img src="{_uri("image/gif", part.content)}" alt="{_text(part.told)}">'
        else:
            inside = (
                f'<video controls loop muted playsinline aria-label="{_text(part.told)}"'
                f' poster="{_uri("image/png", part.poster)}"'
                f' src="{_uri("video/mp4", part.content)}"></video>'
            )
        return f"<figure>{inside}</figure>"
    width, height = _png_size(part.light)
    wide, least = "", ""
    if part.is_wide:  # half of its pixels is the least at which its words are read
        wide, least = ' class="wide"', f' style="min-width: {width // 2}px"'
    return (
        f"<figure{wide}><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_uri("image/png", part.dark)}">'
        f'<img width="{width}" height="{height}"{least}'
        f' src="{_uri("image/png", part.light)}" alt="{_text(part.told)}">'
        "</picture></figure>"
    )


def _png_size(content: bytes) -> tuple[int, int]:
    """Width and height, which stand in a PNG's first chunk."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _text(text: str) -> str:
    return html.escape(text)
