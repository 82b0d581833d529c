"""Where an agent comes from: its run, its checkpoint, and whether an older one had to be taken."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

import worldmodel
from worldmodel import checkpoint, model_file
from worldmodel.checks import ConfigError, require_device
from worldmodel.config import Config
from worldmodel.models import build
from worldmodel.origin import Origin
from worldmodel.structs import Spec

SPEC = Spec((16, 16, 3), 2)


@pytest.fixture
def run(tmp_path: Path, tiny: Config) -> Path:
    """A run of two checkpoints, without what only training needs."""
    folder = tmp_path / "run"
    folder.mkdir()
    about = {
        "settings": asdict(tiny),
        "spec": SPEC.to_dict(),
        "environment": {"renderer": None},
        "versions": {"worldmodel": "1"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(about))
    weights = build(tiny.model, SPEC).state_dict()
    for env_steps in (4000, 6000):
        saved_with = {"env_steps": env_steps}
        checkpoint.save(folder / "checkpoints", env_steps // 20, {"averaged": weights}, saved_with)
    return folder


def test_an_agent_says_which_checkpoint_it_is(run: Path) -> None:
    agent = worldmodel.load(run, strict=True)
    assert agent.origin == Origin(str(run), "toy", 6000, "000000300", None)
    assert repr(agent).startswith("Agent(toy, 6,000 env steps, image 16x16x3, 2 actions, mppi")
    assert agent.changed(planning=agent.planning).origin == agent.origin
    with pytest.raises(dataclasses.FrozenInstanceError):
        agent.origin.env_steps = 0  # type: ignore[misc, union-attr]


def test_older_weights_are_said_and_refused_where_they_must_not_drive(run: Path) -> None:
    newest = run / "checkpoints" / "000000300" / "averaged.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    origin = worldmodel.load(run).origin
    assert origin is not None
    assert (origin.env_steps, origin.checkpoint) == (4000, "000000200")
    assert origin.fallback is not None
    assert "000000300: averaged.safetensors: expected" in origin.fallback
    with pytest.raises(ConfigError) as raised:
        worldmodel.load(run, strict=True)
    assert str(raised.value) == (
        "run: strict: expected the newest checkpoint, which cannot be used"
        f" ({origin.fallback}); without strict=True the one before it, 000000200, is loaded"
    )


def test_a_device_that_is_not_here_is_one_sentence(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError) as raised:
            worldmodel.load(run, device=device)
        said = f"device: torch {torch.__version__} sees no cuda here; use device='cpu'"
        assert str(raised.value) == said
    with pytest.raises(ConfigError, match=r"^device: expected cpu, cuda or .*; got 'gpu'$"):
        worldmodel.load(run, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda:1", "")
    with pytest.raises(ConfigError, match="torch sees 2 of them here; got 'cuda:2'"):
        require_device("cuda:2", "")


def test_a_model_file_says_it_too(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "agent.safetensors"
    model_file.write(path, build(tiny.model, SPEC), tiny, {"trained": {"env_steps": 7}})
    read = model_file.read(path, config=tiny)
    assert read.config is tiny
    assert read.agent.origin == Origin(str(path), "toy", 7, "agent.safetensors")
    model_file.write(path, build(tiny.model, SPEC), tiny, {})
    assert model_file.read(path).agent.origin == Origin(str(path), "toy", None, path.name)
    with pytest.raises(ConfigError, match=r"other settings than those given .*\n  seed: 0 -> 5"):
        model_file.read(path, config=dataclasses.replace(tiny, seed=5))
