"""A model file: its agent is nearly the original, and any other content is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from worldmodel import model_file
from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.config import Config
from worldmodel.models import build
from worldmodel.models.layers import Layers
from worldmodel.models.older_weights import with_todays_names
from worldmodel.structs import Spec


@pytest.fixture
def packed(tmp_path: Path, tiny: Config) -> Path:
    model = build(tiny.model, Spec((64, 64, 3), 2))
    path = tmp_path / "agent.safetensors"
    model_file.write(path, model, tiny, {"trained": {"score": 3.0}})
    torch.manual_seed(0)
    return path


def test_weights_come_back_within_half_a_step_of_eight_bits(tmp_path: Path, tiny: Config) -> None:
    model = build(tiny.model, Spec((64, 64, 3), 2))
    path = tmp_path / "agent.safetensors"
    model_file.write(path, model, tiny, {})
    back = model_file.read(path).agent.model.state_dict()
    eight_bits = 0
    for name, weights in model.state_dict().items():
        if name.startswith("value."):
            continue
        apart = (back[name] - weights).abs()
        if apart.max() == 0:
            continue
        rows = weights.abs().reshape(len(weights), -1).amax(1) if weights.ndim else weights.abs()
        step = rows.reshape(-1, *[1] * (weights.ndim - 1)) / 127
        assert (apart <= 0.51 * step + 1e-7).all(), name
        eight_bits += bool((apart > 2e-3 * weights.abs()).any())
    assert eight_bits >= 3


def test_what_only_learning_needs_is_the_slow_value(packed: Path) -> None:
    model = model_file.read(packed).agent.model
    assert not any(name.startswith("value.") for name in safetensors.torch.load_file(packed))
    slow = model.slow_value.state_dict()
    assert slow
    assert all(torch.equal(slow[name], fast) for name, fast in model.value.state_dict().items())


def test_it_observes_and_plans(packed: Path, tiny: Config) -> None:
    loaded = model_file.read(packed)
    assert isinstance(loaded.agent, Agent)
    assert loaded.config == tiny
    assert loaded.about["trained"] == {"score": 3.0}
    agent = loaded.agent
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    plan = agent.plan(agent.observe(agent.initial(), agent.no_action(), image))
    assert plan.actions.shape == (4, 2)
    assert not any(parameter.requires_grad for parameter in agent.model.parameters())


def test_it_is_a_quarter_of_its_size(packed: Path) -> None:
    model = model_file.read(packed).agent.model
    matrices = [w for w in model.parameters() if w.ndim > 1 and w.numel() >= 1024]
    small = sum(w.numel() for w in model.parameters()) - sum(w.numel() for w in matrices)
    rest = 3 * small * 2 + 64 * 64 * 3 * 2 + 30_000  # float16, the mean image, names and scales
    assert packed.stat().st_size < sum(w.numel() for w in matrices) + rest


def test_one_changed_byte_is_detected(packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[-1] ^= 1
    packed.write_bytes(content)
    with pytest.raises(ConfigError, match=r"agent\.safetensors: .*sha256.*install"):
        model_file.read(packed)


def test_missing_and_unknown_files_are_refused_by_name(packed: Path) -> None:
    description = packed.with_suffix(".json")
    about = json.loads(description.read_text())
    description.write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(ConfigError, match="expected format 1, got 99"):
        model_file.read(packed)
    description.write_text("{")
    with pytest.raises(ConfigError, match="not readable as JSON"):
        model_file.read(packed)
    description.unlink()
    with pytest.raises(ConfigError, match=r"agent\.json: No such file.*install"):
        model_file.read(packed)


def test_weights_of_another_model_are_refused_by_name(packed: Path) -> None:
    description = packed.with_suffix(".json")
    about = json.loads(description.read_text())
    about["settings"]["model"]["dynamics"]["deter_size"] = 8
    description.write_text(json.dumps(about))
    with pytest.raises(ConfigError, match="does not fit this version"):
        model_file.read(packed)


def test_every_large_matrix_that_is_learned_is_stored_in_eight_bits(tmp_path: Path) -> None:
    config, path = Config(), tmp_path / "agent.safetensors"
    model = build(config.model, Spec((64, 64, 3), 2))
    model_file.write(path, model, config, {})
    stored = safetensors.torch.load_file(path)
    for name, weights in model.named_parameters():
        if not name.startswith("value.") and weights.ndim > 1 and weights.numel() >= 1024:
            assert stored[name].dtype == torch.int8, name
    assert stored["pixels.mean"].dtype == torch.float16


@pytest.mark.parametrize("layers", ["normed", "plain"])
def test_a_filter_from_inside_the_dynamics_gets_todays_names(tiny: Config, layers: Layers) -> None:
    model = build(replace(tiny.model, layers=layers), Spec((64, 64, 3), 2))
    weights = model.state_dict()
    older = {name: w for name, w in weights.items() if not name.startswith("posterior.")}
    halves = [weights["posterior.of_context.weight"], weights["posterior.of_embed.weight"]]
    older["dynamics.posterior.0.0.weight"] = torch.cat(halves, 1)
    if layers == "plain":
        older["dynamics.posterior.0.0.bias"] = weights["posterior.of_embed.bias"]
    for kind in ("weight", "bias"):
        older[f"dynamics.posterior.1.{kind}"] = weights[
            f"posterior.rest.{2 if layers == 'normed' else 1}.{kind}"
        ]
        if layers == "normed":
            older[f"dynamics.posterior.0.1.{kind}"] = weights[f"posterior.rest.0.{kind}"]
    renamed = with_todays_names(older)
    assert renamed.keys() == weights.keys()
    assert all(torch.equal(renamed[name], w) for name, w in weights.items())
    assert with_todays_names(weights).keys() == weights.keys()
