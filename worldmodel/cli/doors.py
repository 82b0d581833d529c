"""A run or a place is looked at before anything begins: nothing is created to find out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from worldmodel import run_folder
from worldmodel.checks import ConfigError, nearest


def require_run(run: Path) -> None:
    if not (run / "config.yaml").is_file():
        beside = sorted(str(path.parent) for path in run.parent.glob("*/config.yaml"))
        raise ConfigError(
            f"run: {run} holds no config.yaml, so it is not a run"
            f"{nearest(str(run), beside) if beside else ''}"
        )


@contextlib.contextmanager
def made_by_another(run: Path) -> Iterator[None]:
    """Whoever cannot read a run is told which version made it."""
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
    """It is, or could be made: nothing is created to find out."""
    standing = folder.absolute()
    while not standing.exists():
        standing = standing.parent
    if not standing.is_dir():
        raise ConfigError(f"{name}: cannot write {folder}: {standing} is a file")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise ConfigError(f"{name}: cannot write {folder}: no permission in {standing}")
