"""Whole runs with images as cameras give them: trained, controlled, exported, run without torch."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import worldmodel
from worldmodel import export
from worldmodel.analysis import predict
from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.images import Image, fit_image
from worldmodel.loop import online
from worldmodel.models import build
from worldmodel.replay import cut, read_episode
from worldmodel.report.strips import draw_strip, strip_open_loop
from worldmodel.robot import Controller, InlineWorker
from worldmodel.structs import Spec

RAW = (480, 640, 3)
SETTINGS = {"env": {"fit": "crop"}, "loop": {"seed_updates": 1, "updates": 1}}


@functools.cache
def frame(time: int) -> Image:
    """What the camera sees at a time: a bright column in front of noise."""
    image = np.random.default_rng(time).integers(0, 100, RAW, np.uint8)
    image[:, 100 + 60 * time : 150 + 60 * time] = 250
    return image


class Eye:
    """A camera of 480x640; two motors, which do nothing."""

    action_low, action_high = np.full(2, -1.0), np.full(2, 1.0)

    def reset(self) -> worldmodel.Step:
        self.time = 0
        return worldmodel.Step(self.look())

    def step(self, action: np.ndarray) -> worldmodel.Step:
        self.time += 1
        return worldmodel.Step(self.look(), reward=float(action[0]), is_last=self.time == 7)

    def look(self) -> Any:
        return frame(self.time)


class Eyes(Eye):
    """Two cameras of different shapes, the second grey."""

    def look(self) -> Any:
        return {"wrist": frame(self.time)[::8, ::8], "front": frame(self.time)[::20, ::20, :1]}


def run_of(env: Eye, tiny: Config, run: Path, monkeypatch: pytest.MonkeyPatch) -> worldmodel.Agent:
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    config = read(tiny, SETTINGS)
    worldmodel.train(config, run, env=env, steps=20)
    return worldmodel.load(run)


def images_of(folder: Path) -> list[Image]:
    """The images [T, H, W, C] of each stored episode."""
    return [read_episode(path).image for path in sorted(folder.glob("*.npz"))]


# Blocks what a robot lacks, then observes the camera's image, and the same image fitted before.
ROBOT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "worldmodel", "mujoco", "dm_control", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
sys.path.insert(0, sys.argv[1])
from runner import Runner
agent = Runner(sys.argv[1])
raw, fitted = np.load(sys.argv[2]), np.load(sys.argv[3])
seen, known = (agent.observe(agent.initial(), agent.no_action(), each) for each in (raw, fitted))
assert all(np.array_equal(seen[name], known[name]) for name in known)
assert np.isfinite(agent.plan(seen).actions).all()
try:
    agent.observe(agent.initial(), agent.no_action(), raw[:360])
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_camera_is_fitted_to_the_same_bits_in_training_control_and_export(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    agent = run_of(Eye(), tiny, tmp_path / "run", monkeypatch)
    fitted = np.stack([fit_image(frame(time), 16, "crop") for time in range(8)])
    stored = images_of(tmp_path / "run" / "replay") + images_of(tmp_path / "run" / "heldout")
    assert len(stored) > 3
    assert all(np.array_equal(images, fitted) for images in stored)  # training and evaluation

    belief = agent.observe(agent.initial(), agent.no_action(), frame(3))
    same = agent.observe(agent.initial(), agent.no_action(), fitted[3])
    assert torch.equal(belief.features, same.features)

    worker = InlineWorker(agent)
    rows: list[Any] = []
    monkeypatch.setattr(worker, "hand_over", rows.append)
    with Controller(worker, 5, [-1, -1], [1, 1], 0.5, max_age_s=9.0) as controller:
        controller.step(frame(4))
        controller.step(frame(4)[:360])
        assert controller.counts["bad_image"] == 1
    assert np.array_equal(rows[0].image, fitted[4])

    out = tmp_path / "export"
    export.write(export.record(agent), out, made_from={})
    np.save(tmp_path / "raw.npy", frame(5))
    np.save(tmp_path / "fitted.npy", fitted[5])
    copied = shutil.copytree(out, tmp_path / "robot")
    arguments = [copied, tmp_path / "raw.npy", tmp_path / "fitted.npy"]
    said = subprocess.run(
        [sys.executable, "-c", ROBOT, *map(str, arguments)], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("image: expected uint8 [480, 640, 3], got uint8 [360, 640, 3]")
    assert "fit_image(image, 16, " in said.stdout


def test_a_run_says_once_how_images_are_fitted_and_its_files_know_it(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = tmp_path / "run"
    agent = run_of(Eye(), tiny, run, monkeypatch)
    said = capsys.readouterr()
    line = "image: [480, 640, 3] is fitted to [16, 16, 3]: the square in its middle (env.fit crop)"
    assert (said.out + said.err).count(line) == 1
    spec = yaml.safe_load((run / "config.yaml").read_text())["spec"]
    assert (spec["fit"], spec["cameras"]) == ("crop", {"image": list(RAW)})
    assert agent.model.spec.fitting.cameras == {"image": RAW}
    again = worldmodel.evaluate(agent, Eye(), episodes=1)
    assert np.array_equal(again.episodes[0].image, images_of(run / "heldout")[0])


class Wide(Eye):
    def look(self) -> Any:
        return frame(self.time)[:360]


def test_another_aspect_is_refused_by_an_evaluation_and_by_a_resumed_run(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = run_of(Eye(), tiny, tmp_path / "run", monkeypatch)
    with pytest.raises(RuntimeError, match=r"expected images \[480, 640, 3\] .* got \[360, 640, 3"):
        worldmodel.evaluate(agent, Wide(), episodes=1)
    with pytest.raises(worldmodel.ConfigError, match=r"spec.cameras = .*480.*360"):
        worldmodel.train(read(tiny, SETTINGS), tmp_path / "run", env=Wide(), steps=40)


def test_an_agent_of_an_older_version_plays_where_its_images_were_stretched(tiny: Config) -> None:
    agent = agent_of(tiny, build(tiny.model, Spec((16, 16, 3), 2)))
    evaluated = worldmodel.evaluate(agent, Wide(), episodes=1)
    assert np.array_equal(evaluated.episodes[0].image[0], fit_image(frame(0)[:360], 16))


def test_two_cameras_are_learned_from_stored_shown_and_planned_with(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = run_of(Eyes(), tiny, tmp_path / "run", monkeypatch)
    spec = agent.model.spec
    assert spec.image == (16, 16, 4)
    assert spec.cameras == {"front": (24, 32, 1), "wrist": (60, 80, 3)}
    front = np.stack([fit_image(frame(time)[::20, ::20, :1], 16, "crop") for time in range(8)])
    wrist = np.stack([fit_image(frame(time)[::8, ::8], 16, "crop") for time in range(8)])
    stored = images_of(tmp_path / "run" / "replay")
    assert all(np.array_equal(images, np.concatenate([front, wrist], -1)) for images in stored)

    eyes = Eyes()
    eyes.reset()
    belief = agent.observe(agent.initial(), agent.no_action(), eyes.look())
    same = agent.observe(agent.initial(), agent.no_action(), stored[0][0])
    assert torch.equal(belief.features, same.features)
    assert np.isfinite(agent.plan(belief).first).all()

    episode = read_episode(next((tmp_path / "run" / "heldout").glob("*.npz")))
    prediction = predict(agent, cut([episode], [(0, 0)], 8), context=3)
    assert np.array_equal(prediction.truth[0, :, :, :16], front.repeat(3, -1))
    assert np.array_equal(prediction.truth[0, :, :, 16:], wrist)
    assert prediction.model.shape == (1, 8, 16, 32, 3)
    assert draw_strip(strip_open_loop(prediction)).ndim == 3
