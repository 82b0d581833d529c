"""Pages that are written from the code: ``python -m tests.pages api > docs/api.md``."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import worldmodel

EXAMPLES = Path(__file__).with_name("api_examples.py")
SECTION = "# --- "  # begins the example of a name
WIDTH = 96  # of a signature; a longer one has a line for each argument

HEAD = """\
# The public names

`import worldmodel` shows these names. This page is written from the code by
`python -m tests.pages api > docs/api.md`, and a test runs its examples. The examples belong
together: each uses what those before it made. `camera`, `robot` and `Corridor` are your own.
[robot.md](robot.md) says what the numbers of a robot mean.
"""


def api() -> str:
    """The page docs/api.md."""
    names = sorted(worldmodel.__all__, key=str.lower)
    examples = dict(read_examples())
    links = ", ".join(f"[{name}](#{name.lower()})" for name in names)
    return "\n".join([HEAD, links + "\n", *(_section(name, examples[name]) for name in names)])


def read_examples() -> Iterator[tuple[str, str]]:
    """Each public name with its example, in the order in which they run."""
    for part in EXAMPLES.read_text().split(f"\n{SECTION}")[1:]:
        name, _, code = part.partition("\n")
        yield name, code.strip()


def _section(name: str, example: str) -> str:
    value = getattr(worldmodel, name)
    lines = [f"## {name}", "", *_described(name, value), ""]
    if inspect.isclass(value):
        for verb, member in _members(value):
            lines += [f"### {name}.{verb}", "", *_described(verb, member), ""]
    return "\n".join([*lines, "Example:", "", "```python", example, "```", ""])


def _described(name: str, value: Any) -> list[str]:
    """The signature, and the first paragraph of the docstring."""
    words = first_paragraph(value)
    if isinstance(value, property) or _has_no_signature(value):
        return [words]
    return ["```text", signature(name, value), "```", "", words]


def first_paragraph(value: Any) -> str:
    """The beginning of a docstring, in Markdown."""
    written = inspect.getdoc(value) or ""
    if dataclasses.is_dataclass(value) and written.startswith(f"{value.__name__}("):
        written = ""  # made by dataclasses from the fields
    return " ".join(written.partition("\n\n")[0].split()).replace("``", "`")


def _members(value: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that have a docstring of their own."""
    for name, member in vars(value).items():
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_member = inspect.isfunction(inner) or isinstance(inner, property)
        if is_member and not name.startswith("_") and inspect.getdoc(inner):
            yield name, inner


def signature(name: str, value: Callable[..., Any]) -> str:
    """As it is written in the code, without quotes around types."""
    signed = inspect.signature(value)
    arguments, is_keyword = [], False
    for parameter in signed.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            arguments.append("*")
            is_keyword = True
        arguments.append(_argument(parameter))
        is_keyword = is_keyword or parameter.kind is parameter.VAR_POSITIONAL
    answer = "" if inspect.isclass(value) else f" -> {_type(signed.return_annotation)}"
    line = f"{name}({', '.join(arguments)}){answer}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in arguments) + f"){answer}"


def _argument(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    word = f"{star}{parameter.name}: {_type(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return word
    return f"{word} = {_default(parameter.default)}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "Any")


def _default(value: Any) -> str:
    """The value; ``...`` for one that is made anew for each object."""
    if "factory" in type(value).__name__.lower():
        return "..."
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    if callable(value):
        return f"{value.__module__}.{value.__name__}"
    return repr(value)


def _has_no_signature(value: Any) -> bool:
    """Whether nobody calls it to make one: a protocol, or an error."""
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    return is_error or bool(getattr(value, "_is_protocol", False))


PAGES = {"api": api}

if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
