"""Settings of runs from before their names changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from tests.test_checkpoint import into_format_1
from worldmodel import checkpoint, run_folder
from worldmodel.behaviours.imagined import Imagined
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.models import build
from worldmodel.older_settings import is_older, upgraded
from worldmodel.planners import CEM, MPPI
from worldmodel.presets import load_preset, presets
from worldmodel.structs import Spec

KEPT = sorted((Path(__file__).parents[1] / "assets" / "scores").rglob("settings/*.yaml"))
OLD = yaml.safe_load(
    """
replay: {batch: 9, draws: 1}
model:
  dynamics: {layers: plain, deter_size: 20, hidden_size: 30}
  discount: {kind: none, layers: 1, size: 256}
  value: {kind: none, layers: 2, size: 256}
  policy: {kind: none, layers: 2, size: 256}
objective: {image: 2.0, kl_dynamics: 1.5, discount: 1.0, decoded_share: 1.0}
imagination: {starts: 50, strain: 0.1}
learner: {value_rate: 0.001, settle: null, averaging: 1.0}
planner: {kind: cem, horizon: 12, candidates: 100, proposals: 0, max_std: 0.5, kept_share: 0.3,
          temperature: 0.5, momentum: 0.1, sampled: true}
loop: {together: 3, noise: 0.1, noise_memory: 0.0}
"""
)


def test_an_older_run_has_the_settings_that_it_was_made_with() -> None:
    assert is_older(OLD)
    config = read(Config(), upgraded(OLD))
    model, objective, learner = config.model, config.objective, config.learner
    assert (config.replay.batch, config.replay.tournament) == (9, 1)
    assert (model.layers, model.dynamics.deter_size) == ("plain", 20)
    assert (model.dynamics.hidden_size, model.posterior.hidden_size) == (30, 30)
    assert (model.discount, model.value, model.policy, config.behaviour) == (None,) * 4
    assert objective.image is not None
    assert objective.kl is not None
    assert (objective.image.weight, objective.image.decoded_share) == (2.0, 1.0)
    assert (objective.kl.dynamics, objective.discount) == (1.5, None)
    assert (learner.decay_after, learner.average_rate) == (None, 1.0)
    assert config.planner == CEM(horizon=12, candidates=100, initial_std=0.5)
    assert (config.planning.proposals, config.planning.sampled) == (0, True)
    assert (config.exploration.size, config.exploration.memory) == (0.1, 0.0)
    assert config.loop.episodes_at_once == 3


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_every_kept_file_of_settings_can_be_read(path: Path) -> None:
    written = yaml.safe_load(path.read_text())
    if "renewal" in written["imagination"]:  # a setting that is gone, not renamed
        with pytest.raises(ConfigError, match="imagination"):
            read(Config(), upgraded(written))
        return
    config = read(Config(), upgraded(written))
    assert isinstance(config.planner, MPPI)
    assert config.planner.initial_std == written["planner"]["max_std"]
    assert isinstance(config.behaviour, Imagined)
    assert config.behaviour.imagined_states == written["imagination"]["starts"]


def test_an_older_run_is_opened_and_never_resumed(tmp_path: Path, tiny: Config) -> None:
    spec = {"image": [16, 16, 3], "action_size": 2, "has_choices": False, "vectors": {}}
    settings = asdict(tiny)
    settings["loop"]["noise"] = settings["exploration"].pop("size")
    about = {"settings": settings, "spec": spec, "environment": {}, "versions": {"worldmodel": "0"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(about))
    model = build(tiny.model, Spec((16, 16, 3), 2))
    weights = dict(model.state_dict())
    halves = [weights.pop("posterior.of_context.weight"), weights.pop("posterior.of_embed.weight")]
    weights["dynamics.posterior.0.0.weight"] = torch.cat(halves, 1)
    for old, new in (("0.1", "rest.0"), ("1", "rest.2")):
        for kind in ("weight", "bias"):
            weights[f"dynamics.posterior.{old}.{kind}"] = weights.pop(f"posterior.{new}.{kind}")
    into_format_1(checkpoint.save(tmp_path / "checkpoints", 1, {"averaged": weights}, {}))
    agent = run_folder.load(tmp_path)
    assert run_folder.read_run(tmp_path) == tiny
    opened = agent.model.state_dict()
    assert all(torch.equal(opened[name], w) for name, w in model.state_dict().items())
    with pytest.raises(ConfigError, match="only the version that made it can resume it"):
        run_folder.refuse_other_settings(tmp_path, tiny)


def test_a_run_from_before_cameras_is_resumed_with_what_it_did(
    tmp_path: Path, tiny: Config
) -> None:
    settings = asdict(tiny)
    del settings["env"]["fit"], settings["env"]["cameras"]
    spec = {"image": [16, 16, 3], "action_size": 2, "has_choices": False, "vectors": {}}
    about = {"settings": settings, "spec": spec, "environment": {}, "versions": {"worldmodel": "0"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(about))
    assert not is_older(settings)
    run_folder.refuse_other_settings(tmp_path, tiny)
    assert run_folder.read_run(tmp_path) == tiny
    for changed, difference in (
        ({"fit": "crop"}, "env.fit: stretch -> crop"),
        ({"cameras": [0, 1]}, r"env.cameras: \(\) -> \(0, 1\)"),
    ):
        with pytest.raises(ConfigError, match=difference):
            run_folder.refuse_other_settings(tmp_path, read(tiny, {"env": changed}))


def test_a_setting_that_an_older_run_has_keeps_its_value() -> None:
    env = {"cameras": [2, 0], "image_size": 32}
    expected = {"env": {"cameras": [2, 0], "image_size": 32, "fit": "stretch"}}
    assert upgraded({"env": env}) == expected
    assert upgraded({"loop": {"noise": 0.1}, "env": env}) == {
        "exploration": {
            "size": 0.1,
            "kind": "noise",
            "last_size": None,
            "shrinks_over": 10_000,
            "curiosity": 0.0,
        },
        **expected,
    }
    assert upgraded({"seed": 3}) == {"seed": 3}


@pytest.mark.parametrize("name", sorted(presets()))
def test_no_preset_of_today_is_taken_for_an_older_one(name: str) -> None:
    config = read(load_preset(name), {"objective": {"image": "none"}})
    assert not is_older(asdict(config))
    assert read(Config(), upgraded(asdict(config))) == config


def test_a_run_that_cannot_be_read_names_the_version_that_reads_it(tmp_path: Path) -> None:
    spec = {"image": [16, 16, 3], "action_size": 2}
    for version, sentence in (
        ("0.0.9", r"loop\.renewal: no such .* made with worldmodel 0\.0\.9, which reads it, and"),
        (run_folder.worldmodel_version(), r"loop\.renewal: no such .* part of your own"),
    ):
        about = {"settings": {"loop": {"renewal": 2}}, "spec": spec, "environment": {}}
        about["versions"] = {"worldmodel": version}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(about))
        with pytest.raises(ConfigError, match=sentence):
            run_folder.read_run(tmp_path)


def test_todays_settings_stay_as_they_are_and_unknown_ones_are_refused() -> None:
    today = {"planner": {"kind": "cem", "temperature": 1.0}}
    assert not is_older(today)
    assert upgraded(today) == today
    with pytest.raises(ConfigError, match=r"planner\.wings: no such setting"):
        read(Config(), upgraded({"planner": {"kind": "mppi", "wings": 2, "max_std": 1.0}}))
