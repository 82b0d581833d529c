"""Requirements of a command, checked before it begins; the checks create nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from worldmodel import run_folder
from worldmodel.checks import ConfigError


@contextlib.contextmanager
def version_explained(run: Path) -> Iterator[None]:
    """Add the version that made a run to the error if this version cannot read it."""
    try:
        yield
    except (ConfigError, RuntimeError) as error:
        made = (
            run_folder.read_about(run).get("versions", {}).get("worldmodel", "an unknown version")
        )
        here = importlib.metadata.version("worldmodel")
        if made == here and isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{error}; {run} was made by worldmodel {made}, this is {here}: read it with the"
            " version that made it, or train it again"
        ) from error


def require_writable(folder: Path, name: str) -> None:
    """Raise if the folder is not writable, or if it does not exist and could not be made."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(f"{name}: cannot write {folder}: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{name}: cannot write {folder}: no permission in {existing}")
