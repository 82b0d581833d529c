"""Every preset, tiny, on ``toy`` or levers: it learns, stops, resumes, plans, plays, exports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import worldmodel
from tests.test_choices import Levers
from worldmodel import checkpoint, export, report
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, hints, read, sections
from worldmodel.config import Config
from worldmodel.envs import Environment, adopt, make_env
from worldmodel.learner import Learner
from worldmodel.loop import Outcome, online
from worldmodel.models import build
from worldmodel.presets import load_preset, presets
from worldmodel.structs import Spec, Step

STEPS = 3 * 160  # three episodes; what the third one earns is learned later
SMALL = {  # by the name of a setting, wherever a preset has it
    "width": 2,
    "deter_size": 7,
    "stoch_size": 3,
    "hidden_size": 8,
    "future_size": 5,
    "size": 6,
    "layers": 1,
    "image_size": 16,
    "action_repeat": 16,  # episodes of 11 rows
    "batch": 2,
    "length": 5,
    "memory_gb": 0.1,
    "imagined_states": 4,
    "horizon": 3,
    "iterations": 2,
    "candidates": 8,
    "elites": 3,
    "proposals": 2,
    "seed_episodes": 1,
    "episodes_at_once": 1,
    "seed_updates": 2,
    "updates": 20,
    "evaluate_every": 10_000,
    "evaluate_episodes": 1,
    "precision": "float32",
}
OF_64_PIXELS = ("planet",)
OF_CHOICES = ("dqn",)  # played with levers instead of the toy, whose actions are numbers
# By preset: the sentence with which an export is refused.
CANNOT_EXPORT: Mapping[str, str] = {
    **dict.fromkeys(
        ("dqn", "dreamer", "mae_policy", "solar", "vae_policy"),
        "planner: none, so the policy acts, and only a search can be exported: cem, icem, mppi;"
        " play this agent where torch is, or, if its model has dynamics, export it with"
        " --planner mppi",
    ),
    "e2c": "planner.kind: ilqr cannot be exported, only cem, icem, mppi can; plan with another on"
    " the same model: --planner mppi",
    "foresight": "model.dynamics.kind: an agent that plans for marked pixels cannot be exported,"
    " because scores of an export read features and no pictures; play it where torch is: worldmodel"
    " eval RUN --pixel ROW,COLUMN --to ROW,COLUMN",
}


def shrunk(part: Any) -> dict[str, Any]:
    """The settings to change so that a part, and every part in it, is tiny."""
    small: dict[str, Any] = {}
    for name, hint in hints(type(part)).items():
        value = getattr(part, name, None)
        if value is not None and sections(hint):
            small[name] = shrunk(value)
        elif name in SMALL and value is not None and not isinstance(value, str | bool):
            small[name] = SMALL[name]
    return small


def tiny(name: str) -> Config:
    preset = load_preset(name)
    small = shrunk(preset)
    small["env"] |= {"action_repeat": SMALL["action_repeat"]}
    small["loop"] |= {"updates": SMALL["updates"]}
    small["learner"] |= {"precision": "float32"}
    small["planning"] |= {"precision": "float32"}
    if preset.planner is not None and preset.planner.kind == "ilqr":
        small["planner"] = {"horizon": 1, "iterations": 1}  # more take a tenth of a second
    if preset.loop.seed_updates == 0:
        small["loop"]["seed_updates"] = 0
    if preset.planning.proposals == 0:
        small["planning"]["proposals"] = 0
    if name in OF_64_PIXELS:
        small["env"]["image_size"] = 64
    return read(preset, {"task": "toy", **small})


@pytest.fixture(scope="module", autouse=True)
def _few_final_episodes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "FINAL_EPISODES", 1)
        yield


class SlowLevers(Levers):
    """A row lasts as long as one of the toy does here."""

    def step(self, action: int) -> Step:
        return replace(super().step(action), env_steps=SMALL["action_repeat"])


def env_of(config: Config) -> Environment:
    of_choices = config.behaviour is not None and config.behaviour.kind in OF_CHOICES
    return adopt(SlowLevers(11), config.env) if of_choices else make_env("toy", config.env)


def go(config: Config, run: Path) -> Outcome:
    env = env_of(config)
    return worldmodel.train(config, run, steps=STEPS, env=env)


def stopping_after(updates: int, patch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM to this process once so many updates have been made."""
    learn, made = Learner.update, []

    def update(self: Learner, batch: Any) -> Any:
        made.append(batch)
        if len(made) == updates:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(self, batch)

    patch.setattr(Learner, "update", update)


def assert_same_run(one: Path, other: Path) -> None:
    a, b = (checkpoint.load(run / "checkpoints") for run in (one, other))
    assert a is not None
    assert b is not None
    assert a.step == b.step > 0
    assert a.state["data_random"] == b.state["data_random"]
    for group, tensors in a.tensors.items():
        assert tensors.keys() == b.tensors[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, b.tensors[group][name]), (group, name)


def assert_exports(name: str, agent: Agent, folder: Path) -> None:
    if name in CANNOT_EXPORT:
        with pytest.raises(ConfigError) as raised:
            export.write(export.record(agent), folder, made_from={})
        assert str(raised.value) == CANNOT_EXPORT[name]
        assert not folder.exists()
        return
    export.write(export.record(agent), folder, made_from={})
    assert export.difference(agent, export.Runner(folder), steps=2) <= 1e-4


# Each run takes seconds: by default three that differ in every part; other tests stop the default.
PLAYED = ("e2c", "onestep", "smoother")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in PLAYED else pytest.mark.slow)
        for name in sorted(presets())
    ],
)
def test_a_preset_learns_stops_resumes_plans_and_plays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(name)
    with monkeypatch.context() as patch:
        stopping_after(3, patch)
        assert go(config, tmp_path / "parts").interrupted
    resumed = go(config, tmp_path / "parts")
    whole = go(config, tmp_path / "whole")
    assert resumed.returns == whole.returns
    assert resumed.updates == whole.updates > 3
    assert_same_run(tmp_path / "whole", tmp_path / "parts")

    agent = worldmodel.load(tmp_path / "parts")
    env = env_of(config)
    black = torch.zeros(agent.image_shape, dtype=torch.uint8)
    belief = agent.observe(agent.initial(), agent.no_action(), black)
    score = None if config.planning.goal is None else agent.goal(black)
    plan = agent.plan(belief, score=score)
    assert bool(plan.actions.isfinite().all())
    assert plan.origin == ("policy" if agent.planner is None else "search")
    assert len(worldmodel.evaluate(agent, env, 1).returns) == 1


# Each export takes seconds: by default only a refusal is tried. test_export makes others.
EXPORTED = ("e2c",)


@pytest.mark.usefixtures("one_table_of_operators")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in EXPORTED else pytest.mark.slow)
        for name in sorted(presets())
    ],
)
def test_a_preset_is_exported_or_says_why_not(name: str, tmp_path: Path) -> None:
    config = tiny(name)
    env = env_of(config)
    model = build(config.model, Spec.of(env, env.reset(0), config.env.frames))
    if config.model.reward is not None:
        # of a new model all candidates are alike, and rounding decides which is the best
        torch.nn.init.normal_(model.reward.last.weight)
    if config.planner is not None:
        planner = read(config.planner, {"horizon": 2, "iterations": 1})
        config = replace(config, planner=planner)
    agent = agent_of(config, model)
    assert_exports(name, agent, tmp_path / "export")


# By preset: the sentence with which a report is refused.
CANNOT_DRAW: Mapping[str, str] = {
    "contrastive": "model.decoder: none, so this model draws no images to look at; it can be"
    " evaluated and played, and reports, figures and dreams need one that was trained with"
    " model.decoder.kind: slim and objective.image.weight: 1.0"
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_is_visualized_or_says_why_not(name: str, tmp_path: Path) -> None:
    config, run = tiny(name), tmp_path / "run"
    go(config, run)
    agent = worldmodel.load(run)
    if name in CANNOT_DRAW:
        with pytest.raises(ConfigError) as raised:
            report.visualize_run(agent, run, tmp_path / "report", config=config)
        assert str(raised.value) == CANNOT_DRAW[name]
        return
    summary = report.visualize_run(agent, run, tmp_path / "report", config=config)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<html" in page
    assert summary.files
