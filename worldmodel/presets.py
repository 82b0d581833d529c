"""Load presets: YAML files of settings, those of the package by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from worldmodel.checks import ConfigError, nearest, read, require
from worldmodel.config import Config


def presets() -> dict[str, Path]:
    """The files of all presets in the package, by name."""
    inside = Path(__file__).parent / "configs"  # an installed package
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_preset(name: str) -> Config:
    """Load a preset of the package by name, or a YAML file by path."""
    shipped = presets()
    if name in shipped:
        path = shipped[name]
    elif name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        require(path.is_file(), f"preset: no file {name}")
    else:
        raise ConfigError(f"preset: no preset {name}{nearest(name, list(shipped))}")
    return load_yaml(path)


def load_yaml(path: Path) -> Config:
    """Load settings from a YAML file, which holds only what differs from the defaults."""
    try:
        differences = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    require(isinstance(differences, Mapping), f"{path}: expected a mapping of settings")
    try:
        return read(Config(), differences)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
