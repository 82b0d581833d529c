"""Presets: the shipped YAML files of settings, and how one is found and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from worldmodel.checks import ConfigError, nearest, read, require
from worldmodel.config import Config


def presets() -> dict[str, Path]:
    """Every shipped preset, by name."""
    inside = Path(__file__).parent / "configs"  # an installed package
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_preset(name: str) -> Config:
    """A shipped preset by name, or a YAML file by path."""
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
    try:
        differences = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    require(isinstance(differences, Mapping), f"{path}: expected a mapping of settings")
    try:
        return read(Config(), differences)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
