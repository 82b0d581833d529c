"""Find other packages and files that ``import worldmodel`` may mean."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from worldmodel.doctor.facts import Namesake

NAME = "worldmodel"
_MODULE = re.compile(rf"^{NAME}(/__init__)?\.py,", re.MULTILINE)  # in a list of installed files


def namesakes(own: Path, folders: Sequence[str] | None = None) -> tuple[Namesake, ...]:
    """All of them in ``folders``: by default the working folder, then those that Python searches.

    ``own``: the ``__init__.py`` of this package. A copy of it with the same text is no namesake.
    """
    searched = list(dict.fromkeys([os.getcwd(), *sys.path] if folders is None else folders))
    installed = list(_installed(own, searched))
    places = {other.place for other in installed}
    text = own.read_bytes()
    found = []
    for folder in searched:
        for path in (Path(folder, NAME, "__init__.py"), Path(folder, f"{NAME}.py")):
            if path.is_file() and path.read_bytes() != text and folder not in places:
                place = path.parent if path.name == "__init__.py" else path
                found.append(Namesake("", "", str(place.resolve())))
    return (*installed, *found)


def _installed(own: Path, folders: Sequence[str]) -> Iterator[Namesake]:
    """Distributions with a package of this name, without the first that is called like this one."""
    clone = own.parent.parent  # if it holds metadata, these are of this package too
    seen = set()
    ours = False
    for distribution in importlib.metadata.distributions(path=list(folders)):
        name = distribution.metadata["Name"]
        place = Path(str(distribution.locate_file(""))).resolve()
        if not name or not _brings(distribution) or place == clone or (name, place) in seen:
            continue
        seen.add((name, place))
        if not ours and re.sub(r"[-_.]+", "-", name).lower() == NAME:
            ours = True
            continue
        yield Namesake(name, distribution.version, str(place))


def _brings(distribution: importlib.metadata.Distribution) -> bool:
    top_level = distribution.read_text("top_level.txt")
    if top_level is not None:
        return NAME in top_level.split()
    return bool(_MODULE.search(distribution.read_text("RECORD") or ""))
