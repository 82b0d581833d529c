"""An agent in one small file: weights in eight bits, and a JSON file that describes them.

``NAME.safetensors`` holds the weights that acting and reports need, at a quarter of the size of
float32: each matrix as integers with one scale for each output, everything else in float16.
``NAME.json`` holds the settings of the model, the origin of the weights, and their sha256. Nothing
is pickled; reading runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from worldmodel import checks, files, older_settings
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError
from worldmodel.compare_settings import differences
from worldmodel.config import Config
from worldmodel.models import WorldModel, build
from worldmodel.models.older_weights import with_todays_names
from worldmodel.origin import Origin
from worldmodel.quantise import quantised, restored
from worldmodel.structs import Spec

FORMAT = 1  # a reader refuses other formats
SMALLEST = 1024  # numbers; smaller matrices stay in float16
SCALE = ":scale"  # suffix for the scales of a matrix; no module can have such a name
# Prefixes of two parts that differ by a few updates. Plans use the slow value; the other, which
# only learning needs, is not stored, and becomes a copy of the slow one.
SLOW, FAST = "slow_value.", "value."


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file."""

    agent: Agent
    config: Config
    about: Mapping[str, Any]  # all of the JSON


def write(path: Path, model: WorldModel, config: Config, about: Mapping[str, Any]) -> None:
    """Write ``path`` and its JSON. ``about``: more entries of the JSON, for people."""
    learned = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(FAST):
            tensors |= _smaller(name, tensor.detach().float().cpu(), name in learned)
    content = safetensors.torch.save(tensors)
    written = {
        "format": FORMAT,
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "spec": model.spec.to_dict(),
        **about,
        "settings": dataclasses.asdict(config),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content)
    files.write(path.with_suffix(".json"), (json.dumps(written, indent=1) + "\n").encode())


def read(path: Path, *, config: Config | None = None) -> ModelFile:
    """Read the agent, after the checksum of the whole file.

    ``config``: the settings that it was made with, where its parts are of your own making.
    """
    about = read_about(path)
    content = _bytes(path)
    if len(content) != about["bytes"] or hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ConfigError(
            f"{path}: its content is not what {path.with_suffix('.json').name} says (sha256);"
            " install the package again"
        )
    config = _settings_in(about, path, config)
    model = build(config.model, Spec.described(about))
    weights = with_todays_names(_larger(safetensors.torch.load(content)))
    slow = {name: tensor for name, tensor in weights.items() if name.startswith(SLOW)}
    weights |= {FAST + name.removeprefix(SLOW): tensor for name, tensor in slow.items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{path}: does not fit this version of worldmodel: {error}") from error
    env_steps = about.get("trained", {}).get("env_steps")
    origin = Origin(str(path), config.task, env_steps, path.name)
    return ModelFile(agent_of(config, model.requires_grad_(False), origin=origin), config, about)


def read_about(path: Path) -> dict[str, Any]:
    """Read the JSON only."""
    described = path.with_suffix(".json")
    try:
        about: dict[str, Any] = json.loads(_bytes(described))
    except ValueError as error:
        raise ConfigError(f"{described}: not readable as JSON: {error}") from error
    if about.get("format") != FORMAT:
        raise ConfigError(
            f"{described}: expected format {FORMAT}, got {about.get('format')}; it was written by"
            " another version of worldmodel"
        )
    return about


def _settings_in(about: Mapping[str, Any], path: Path, config: Config | None) -> Config:
    """The settings in ``about``: those given, if they do not differ."""
    written = older_settings.upgraded(about["settings"])
    if config is None:
        return checks.read(Config(), written)
    differing = differences(checks.read(config, written), config)
    if differing:
        raise ConfigError(
            f"{path}: was made with other settings than those given (file -> given):\n  "
            + "\n  ".join(differing)
        )
    return config


def _smaller(name: str, tensor: Tensor, is_learned: bool) -> dict[str, Tensor]:
    """Store a matrix or a convolution [R, ...] as int8 and scales [R], all else as float16.

    The mean image is not learned and stays in float16.
    """
    if tensor.ndim < 2 or tensor.numel() < SMALLEST or not is_learned:
        return {name: tensor.to(torch.float16).contiguous()}
    integers, scale = quantised(tensor.numpy(), axis=0)
    return {
        name: torch.from_numpy(integers).contiguous(),
        f"{name}{SCALE}": torch.from_numpy(scale),
    }


def _larger(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Restore all weights to float32."""
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        weights[name] = tensor.float()
        if tensor.dtype == torch.int8:
            scale = tensors[f"{name}{SCALE}"]
            weights[name] = torch.from_numpy(restored(tensor.numpy(), scale.numpy(), axis=0))
    return weights


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; install the package again") from error
