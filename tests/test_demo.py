"""The agent in the package, and what a demo leaves."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worldmodel
from tests.conftest import TINY, report_quickly
from worldmodel import demo, loop, model_file, run_folder
from worldmodel.analysis import FEWEST_EPISODES
from worldmodel.analysis.starts import read_starts
from worldmodel.checks import ConfigError, read
from worldmodel.cli import demo as cli_demo
from worldmodel.cli import main
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.log import read_evaluations
from worldmodel.loop import online
from worldmodel.presets import load_preset
from worldmodel.replay import read_episode


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = read(Config(), {**TINY, "env": {"image_size": 16, "action_repeat": 8}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "FINAL_EPISODES", 2)
        worldmodel.train(config, folder, env=make_env("toy", config.env), steps=320)
    return folder


@pytest.fixture
def weights(run: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pretrained" / "demo.safetensors"
    demo.pack(run, path)
    return path


def test_the_agent_in_the_package_is_whole_and_small() -> None:
    loaded = model_file.read(demo.WEIGHTS)
    assert loaded.config.task == "ball_in_cup_catch"
    assert demo.WEIGHTS.stat().st_size < 4e6
    trained = loaded.about["trained"]
    assert trained["score"] == np.mean(trained["returns"])
    assert len(trained["returns"]) >= 10
    names = {path.name for path in demo.WEIGHTS.parent.iterdir() if path.is_file()}
    assert names == {"demo.safetensors", "demo.json"}


def test_the_command_line_next_to_the_weights_trains_them_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command line gives the same settings even if the presets have changed since."""
    about = model_file.read_about(demo.WEIGHTS)
    words = shlex.split(demo.introduce().split("trained by: ")[1])
    asked: list[tuple[Config, dict[str, Any]]] = []

    def train(config: Config, run: Path, **limits: Any) -> loop.Outcome:
        asked.append((config, limits))
        return loop.Outcome(run, 0, 0, 0.0, [], interrupted=True)

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.chdir(tmp_path)
    assert words[0] == "worldmodel"
    main(words[1:])
    ((config, limits),) = asked
    assert config == read(Config(), about["settings"])  # which may lack settings added since
    took = about["trained"]["wall_clock_s"] / 60  # the last evaluation came after that
    assert took - 3 <= limits["minutes"] <= took


def test_settings_that_are_no_defaults_are_in_the_command_line() -> None:
    config = dataclasses.replace(load_preset("default"), task="toy", seed=3)
    planner = dataclasses.replace(config.planner, horizon=9)
    command = demo.command(dataclasses.replace(config, planner=planner), minutes=5)
    assert command == "worldmodel train toy --seed 3 --minutes 5 --planner.horizon 9"


def test_what_was_packed_is_what_the_run_learned(run: Path, weights: Path) -> None:
    learned, packed = run_folder.load(run), model_file.read(weights)
    assert packed.config == run_folder.read_run(run)
    for name, one in learned.model.named_parameters():
        if not name.startswith("value."):
            other = packed.agent.model.get_parameter(name)
            assert (one - other).abs().max() <= one.abs().max() / 250 + 1e-7, name
    last = read_evaluations(run / "eval.csv")[-1]
    trained = packed.about["trained"]
    assert trained["returns"] == last.returns
    assert trained["env_steps"] == last.env_steps == 320


def test_the_starts_of_a_dream_are_packed_too(run: Path, weights: Path) -> None:
    heldout = [read_episode(path) for path in sorted((run / "heldout").glob("*.npz"))]
    packed = [read_episode(path) for path in sorted((weights.parent / "heldout").glob("*.npz"))]
    assert {len(episode) for episode in packed} == {5}
    assert len(packed) == 6
    assert np.array_equal(packed[0].image, heldout[0].image[:5])
    agent = model_file.read(weights).agent
    assert len(read_starts(agent, weights.parent).images) == 6


def test_a_demo_leaves_a_video_a_report_and_its_scores(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_quickly(monkeypatch)
    out = tmp_path / "demo"
    stages: list[str] = []
    shown = demo.show(out, episodes=1, seed=5, weights=weights, say=stages.append)
    assert shown.video.stat().st_size > 0
    assert [stage for stage in stages if not stage.startswith("  drawn: ")] == [
        "the simulator and its renderer start",
        "playing 1 episode; every action is planned",
        f"writing {shown.video.name}",
        "measuring the model, and drawing the report:",
    ]
    page = shown.page.read_text()
    assert "The plans are those with which the episodes were played." in page
    sections = re.findall(r"^    (\S.*?)  +", demo.LOOK_AT, re.MULTILINE)
    assert len(sections) == 3
    assert set(sections) <= {heading.strip() for heading in re.findall(r"<h2[^>]*>([^<]*)", page)}
    assert "<html" in shown.page.read_text()
    (scores,) = read_evaluations(out / "eval.csv")
    assert scores.seeds == [5]
    assert scores.returns == shown.returns.tolist()
    assert json.loads((out / demo.MARK).read_text()) == model_file.read_about(weights)
    said = str(shown)
    assert str(shown.video) in said
    assert str(shown.page) in said
    assert f"stated: {shown.stated:.1f}" in said


def test_a_second_demo_replaces_the_first(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is left out, because it takes long."""
    monkeypatch.setattr(
        "worldmodel.report.visualize_run",
        lambda *_, **__: types.SimpleNamespace(notes=["evaluate more (loop.evaluate_episodes)"]),
    )
    first = demo.show(tmp_path / "demo", episodes=2, seed=5, weights=weights)
    second = demo.show(tmp_path / "demo", episodes=1, seed=6, weights=weights)
    assert second.returns.tolist() == first.returns.tolist()[1:]
    assert len(list((tmp_path / "demo" / "heldout").glob("*.npz"))) == 1
    (scores,) = read_evaluations(tmp_path / "demo" / "eval.csv")
    assert scores.seeds == [6]
    assert second.notes == ["evaluate more (--episodes)"]  # an option that a demo has


def test_a_demo_plays_enough_episodes_for_the_probes_of_its_report() -> None:
    default = inspect.signature(cli_demo._show_demo).parameters["episodes"].default
    assert default >= FEWEST_EPISODES


def test_a_folder_of_something_else_is_left_alone(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out: .*something else than a demo.*--out"):
        demo.require_free(run)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        demo.require_free(tmp_path / "file")
    demo.require_free(tmp_path / "new")


def test_without_a_simulator_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = demo.make_env_of_file.__globals__["importlib"].util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "dm_control" else find_spec(name)
    )
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 2
    said = capsys.readouterr().err
    assert "ball_in_cup_catch needs dm_control" in said
    assert "pip install" in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_did_not_reach_its_end_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run"):
        demo.pack(tmp_path, tmp_path / "demo.safetensors")
    assert list(tmp_path.iterdir()) == []
