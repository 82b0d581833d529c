"""HTML pages from the templates in this folder; every value that is filled in is escaped."""

from __future__ import annotations

from pathlib import Path


def render(template: str, **values: object) -> str:
    """The page of a template's name; a value that it misses is an error."""
    import jinja2  # only pages need it

    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(template).render(values)
