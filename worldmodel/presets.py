"""Load presets: YAML files of settings, those of the package by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from worldmodel import older_settings
from worldmodel.checks import ConfigError, nearest, read, require

if TYPE_CHECKING:  # it imports torch, and a name is refused without it
    from worldmodel.config import Config

T = TypeVar("T")


def presets() -> dict[str, Path]:
    """The files of all presets in the package, by name."""
    inside = Path(__file__).parent / "configs"  # an installed package
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_preset(name: str) -> Config:
    """Load a preset of the package by name, or a YAML file by path."""
    from worldmodel.config import Config

    return preset_on(Config(), name)


def preset_on(defaults: T, name: str) -> T:
    """``defaults``, a tree of all settings, with what differs in a preset."""
    return _read_file(defaults, preset_file(name))


def preset_file(name: str) -> Path:
    """The file of a preset; raise if there is none."""
    shipped = presets()
    if name in shipped:
        return shipped[name]
    if name.endswith((".yaml", ".yml")) or "/" in name:
        of_a_run = Path(name) / "config.yaml"
        require(
            not of_a_run.is_file(),
            f"preset: {name} is the folder of a run; the file with its settings is {of_a_run}",
        )
        require(Path(name).is_file(), f"preset: no file {name}")
        return Path(name)
    raise ConfigError(f"preset: no preset {name}{nearest(name, list(shipped))}")


def _read_file(defaults: T, path: Path) -> T:
    written = mapping_in(path)
    if is_of_a_run(written):
        written = older_settings.upgraded(written["settings"])
    try:
        return read(defaults, written)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def mapping_in(path: Path) -> Mapping[str, Any]:
    """What a YAML file holds."""
    try:
        written = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    require(isinstance(written, Mapping), f"{path}: expected a mapping of settings")
    assert isinstance(written, Mapping)
    return written


def is_of_a_run(written: Mapping[str, Any]) -> bool:
    """Whether a file is the config.yaml of a run, which holds its settings and more."""
    return isinstance(written.get("settings"), Mapping)
