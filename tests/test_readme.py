"""What the README shows, runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import worldmodel
from tests.conftest import TINY
from worldmodel import cli
from worldmodel.agent import Agent
from worldmodel.config import Config, read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_robots_ten_lines_run(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, with a camera and a robot that stops after four images."""
    code = next(block for block in blocks("python") if "robot.execute" in block)
    model = worldmodel.loop.WorldModel(tiny.model, 64, 3, 2)
    executed: list[np.ndarray] = []

    class Stop(Exception):  # noqa: N818
        pass

    class Robot:
        def execute(self, action: np.ndarray) -> np.ndarray:
            executed.append(action)
            if len(executed) == 4:
                raise Stop
            return np.clip(action, -0.5, 0.5)

    def camera() -> np.ndarray:
        return np.full((64, 64, 3), 50 * len(executed), np.uint8)

    monkeypatch.setattr(worldmodel, "load", lambda run: Agent(model, tiny))
    with pytest.raises(Stop):
        exec(code, {"camera": camera, "robot": Robot()})
    assert all(action.shape == (2,) for action in executed)
    assert np.abs(executed).max() <= 1


def test_a_task_of_ones_own_is_a_task(tmp_path: Path) -> None:
    """The class as it stands, checked, and trained for a few episodes of a tiny model."""
    code = next(block for block in blocks("python") if "class Corridor" in block)
    names: dict[str, object] = {"__name__": "corridor"}
    exec(code, names)
    env = names["Corridor"]()  # type: ignore[operator]
    worldmodel.envs.check_env(env)
    config = read(Config(), {**TINY, "task": "corridor", "env": {"image_size": 64}})
    outcome = worldmodel.train(config, tmp_path / "run", env=env, steps=100)
    assert outcome.env_steps >= 100


def test_every_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command exists and takes the options that are shown with it."""
    shown = [
        line.split("&&")[-1].strip()
        for block in blocks("bash")
        for line in block.splitlines()
        if "worldmodel " in line
    ]
    shown += re.findall(r"`(worldmodel [^`]+)`", README)
    assert len(shown) >= 5
    for line in shown:
        command, *rest = shlex.split(line)[1:]
        assert command in cli.COMMANDS, line
        assert cli.main([command, "--help"]) == 0
        text = capsys.readouterr().out
        for option in rest:
            if option.startswith("--") and option != "--help":
                assert option.replace("_", "-") in text.replace("_", "-"), line


def test_every_file_that_is_named_exists() -> None:
    for name in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / name).exists(), name


def test_every_room_of_the_map_exists() -> None:
    for row in re.findall(r"^\| (`[^|]+) \|", README, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            assert (ROOT / "worldmodel" / name).exists() or (ROOT / name).exists(), name
