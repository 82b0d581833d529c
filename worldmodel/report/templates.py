"""HTML pages from templates; every value that is filled in is escaped."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def render(template: str, *, templates: Path = HERE, **values: object) -> str:
    """The page of a template's name in the folder ``templates``; a value it misses is an error."""
    import jinja2  # only pages need it

    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(template).render(values)
