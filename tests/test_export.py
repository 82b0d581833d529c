"""An exported agent observes and plans as the original does, and needs no torch."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from tests.conftest import TINY, Painter
from worldmodel import checkpoint, run_folder
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main
from worldmodel.config import Config
from worldmodel.export.made import Plan as RunnersPlan
from worldmodel.export.normal import log_normal_cdf
from worldmodel.limits import Limits
from worldmodel.models import build
from worldmodel.models.latents import Point, Remembered
from worldmodel.quantise import quantised
from worldmodel.replay import write_episode
from worldmodel.robot import Controller
from worldmodel.rollout import evaluate
from worldmodel.structs import Episode, Spec, Step, leaves
from worldmodel.timing import PlanTiming

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

import onnx
import onnxruntime
from onnx import helper, numpy_helper

from worldmodel import export
from worldmodel.export import (
    comparison,
    compression,
    folder,
    graphs,
    imagined,
    onnx_graph,
    pruning,
)

TOLERANCE = 1e-4
SPEC = Spec((16, 16, 3), 2)
SHORT = {"horizon": 2, "iterations": 2, "candidates": 8, "elites": 3}


def config_of(*, planning: Mapping[str, Any] = MappingProxyType({}), **planner: Any) -> Config:
    return read(read(Config(), TINY), {"planner": {**SHORT, **planner}, "planning": planning})


def make_agent(
    *,
    planning: Mapping[str, Any] = MappingProxyType({}),
    spec: Spec = SPEC,
    **planner: Any,
) -> Agent:
    """An agent whose random heads differ strongly, so that the search has an optimum to find."""
    torch.manual_seed(0)
    config = config_of(planning=planning, **planner)
    model = build(config.model, spec)
    assert model.policy is not None
    for part in (model.reward, model.slow_value, model.discount, model.policy):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return agent_of(config, model.requires_grad_(False))


# Recording a graph takes seconds: fast tests record only the default planner.
@pytest.fixture(
    scope="module",
    params=[
        {"kind": "mppi"},
        pytest.param(
            {"kind": "cem", "planning": {"sampled": True, "warm_start": False}},
            marks=pytest.mark.slow,
        ),
        pytest.param({"kind": "icem", "iterations": 3}, marks=pytest.mark.slow),
    ],
    ids=lambda planner: planner["kind"],
)
def recorded(
    request: pytest.FixtureRequest, one_table_of_operators: None
) -> tuple[Agent, graphs.Graphs]:
    agent = make_agent(**request.param)
    return agent, export.record(agent)


@pytest.fixture(scope="module")
def exported(
    recorded: tuple[Agent, graphs.Graphs], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Agent, Path]:
    agent, made = recorded
    out = tmp_path_factory.mktemp("exported") / "export"
    export.write(made, out, made_from={"task": "toy"})
    return agent, out


# ---------------------------------------------------------------------------- the same agent


def test_it_observes_and_plans_as_the_original(exported: tuple[Agent, Path]) -> None:
    agent, out = exported
    assert export.difference(agent, export.Runner(out), steps=6) <= TOLERANCE


def test_a_planner_that_differs_is_detected(exported: tuple[Agent, Path]) -> None:
    agent, out = exported
    planner = dataclasses.replace(agent.planner, initial_std=0.5)
    other = agent.changed(planner=planner)
    assert export.difference(other, export.Runner(out), steps=1) > 100 * TOLERANCE


def test_a_search_starts_from_the_last_plan(exported: tuple[Agent, Path]) -> None:
    agent, out = exported
    runner = export.Runner(out)
    first = runner.plan(runner.initial(), seed=1)
    again = runner.plan(runner.initial(), previous=first, seed=1)
    starts_warm = agent.planning.warm_start
    assert np.array_equal(first.actions, again.actions) != starts_warm


def test_a_plan_has_its_fields_and_follows_from_its_seed(exported: tuple[Agent, Path]) -> None:
    agent, out = exported
    runner, planner = export.Runner(out), agent.planner
    plan = runner.plan(runner.initial(), seed=3)
    assert plan.actions.shape == (planner.horizon, 2)
    assert plan.elites.shape == (planner.elites, planner.horizon, 2)
    assert np.array_equal(plan.first, plan.actions[0])
    assert np.abs(plan.actions).max() <= 1
    assert plan.iterations == planner.iterations
    assert plan.milliseconds > 0
    assert isinstance(plan.value, float)
    same, other = (runner.plan(runner.initial(), seed=seed) for seed in (3, 4))
    assert np.array_equal(plan.actions, same.actions)
    assert not np.array_equal(plan.actions, other.actions)


# Blocks the packages that the folder must not need, and opens it.
OPENED = """
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
"""

# Plans as a robot does.
ROBOT = f"""{OPENED}
belief, action, plan = agent.initial(), agent.no_action(), None
for step in range(3):
    image = np.full(agent.image_shape, 40 * step, np.uint8)
    belief = agent.observe(belief, action, image, seed=step)
    plan = agent.plan(belief, previous=plan, seed=step)
    action = plan.first
print(*plan.actions.flatten().tolist())
"""


def test_it_runs_without_torch(exported: tuple[Agent, Path], tmp_path: Path) -> None:
    _, out = exported
    copied = shutil.copytree(out, tmp_path / "robot")
    said = subprocess.run(
        [sys.executable, "-c", ROBOT, str(copied)], check=True, capture_output=True, text=True
    )
    runner = export.Runner(out)
    belief, action, plan = runner.initial(), runner.no_action(), None
    for step in range(3):
        image = np.full(runner.image_shape, 40 * step, np.uint8)
        belief = runner.observe(belief, action, image, seed=step)
        plan = runner.plan(belief, previous=plan, seed=step)
        action = plan.first
    assert plan is not None
    expected = plan.actions.flatten()
    np.testing.assert_allclose([float(word) for word in said.stdout.split()], expected, atol=1e-6)


# Compares with the recorded original, in an environment of only numpy and onnxruntime.
ALONE = """
import importlib.util, sys
for heavy in ("torch", "worldmodel", "mujoco", "dm_control", "onnx"):
    assert importlib.util.find_spec(heavy) is None, heavy
import numpy as np
sys.path.insert(0, sys.argv[1])
from runner import Runner
agent, walked = Runner(sys.argv[1]), np.load(sys.argv[2])
belief, plan, answers = agent.initial(), None, []
for step, action in enumerate(walked["action"]):
    noises = walked["observe"][step], walked["plan"][step]
    belief = agent.observe(belief, action, walked["image"][step], noise=noises[0])
    plan = agent.plan(belief, previous=plan, noise=noises[1])
    parts = [part.ravel() for part in belief.values()]
    answers.append(np.concatenate([*parts, plan.actions.ravel(), plan.elites.ravel()]))
np.save(sys.argv[3], answers)
"""


@pytest.mark.slow
def test_an_environment_of_numpy_and_onnxruntime_answers_as_the_original(
    exported: tuple[Agent, Path], tmp_path: Path
) -> None:
    agent, out = exported
    belief, plan, done = agent.initial(), None, agent.no_action()
    walked: dict[str, list[Any]] = {"action": [], "image": [], "observe": [], "plan": []}
    expected = []
    for step in range(6):
        image = torch.randint(256, agent.model.spec.image, dtype=torch.uint8).numpy()
        with graphs.Drawn() as to_observe:
            belief = agent.observe(belief, done, image, seed=step)
        with graphs.Drawn() as to_plan:
            plan = agent.plan(belief, previous=plan, seed=step)
        noises = to_observe.noise.numpy(), to_plan.noise.numpy()
        for name, value in zip(walked, (done, image, *noises), strict=True):
            walked[name].append(value)
        parts = [part.flatten() for part in leaves(belief).values()]
        expected.append(torch.cat([*parts, plan.actions.flatten(), plan.elites.flatten()]))
        done = plan.first
    np.savez(tmp_path / "walked.npz", **walked)
    python = make_environment(tmp_path / "venv", ["numpy", "onnxruntime"])
    copied = shutil.copytree(out, tmp_path / "robot")
    answers = tmp_path / "answers.npy"
    words = [python, "-I", "-c", ALONE, copied, tmp_path / "walked.npz", answers]
    subprocess.run(words, check=True)
    np.testing.assert_allclose(np.load(answers), torch.stack(expected), rtol=0, atol=TOLERANCE)


SLIM = """
import sys, numpy as np, worldmodel
agent = worldmodel.load(sys.argv[1])
belief = agent.initial()
image = np.zeros(agent.model.spec.image, np.uint8)
belief = agent.observe(belief, agent.no_action(), image)
print(*agent.plan(belief).first)
for heavy in ("mujoco", "dm_control", "tyro", "matplotlib", "onnx"):
    try:
        __import__(heavy)
    except ImportError:
        continue
    raise AssertionError(heavy)
"""


@pytest.mark.slow
def test_five_packages_are_enough_to_load_and_plan(tmp_path: Path) -> None:
    packages = ["torch", "numpy", "einops", "safetensors", "pyyaml"]
    python = make_environment(tmp_path / "venv", packages)
    root = Path(__file__).parents[1]
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", root], check=True)
    said = subprocess.run(
        [python, "-c", SLIM, str(make_run(tmp_path / "run", make_agent()))],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(said.stdout.split()) == 2


def make_environment(at: Path, packages: list[str]) -> Path:
    subprocess.run([sys.executable, "-m", "venv", at], check=True)
    constraints = Path(__file__).parents[1] / "constraints.txt"
    subprocess.run(
        [at / "bin/python", "-m", "pip", "install", "-q", "-c", constraints, *packages], check=True
    )
    return at / "bin/python"


def make_episode(rows: int = 12) -> Episode:
    random = np.random.default_rng(0)
    return Episode(
        image=random.integers(0, 256, (rows, 16, 16, 3), np.uint8),
        action=random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        reward=np.zeros(rows, np.float32),
        discount=np.ones(rows, np.float32),
        env_steps=np.ones(rows, np.int64),
    )


def make_run(at: Path, agent: Agent) -> Path:
    """A run with the files that ``load`` reads."""
    at.mkdir()
    config = dataclasses.replace(config_of(), planner=agent.planner, planning=agent.planning)
    about = {
        "settings": dataclasses.asdict(config),
        "spec": agent.model.spec.to_dict(),
        "environment": {"renderer": None},
        "versions": {"worldmodel": run_folder.worldmodel_version()},
    }
    (at / "config.yaml").write_text(yaml.safe_dump(about))
    weights = agent.model.state_dict()
    checkpoint.save(at / "checkpoints", 1, {"model": weights, "averaged": weights}, {})
    return at


# ---------------------------------------------------------------------------- any belief, any row


@dataclasses.dataclass(frozen=True)
class Board:
    """A latent of one part with two axes, whose name is also that of an input of the graph."""

    image: torch.Tensor  # [..., 2, 5]

    @property
    def features(self) -> torch.Tensor:
        return self.image.flatten(-2)

    @property
    def shape(self) -> torch.Size:
        return self.image.shape[:-2]

    distribution = None


class Folded(torch.nn.Module):
    """Recurrent dynamics whose latent is a board."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.noise_size = inner.noise_size

    def initial(self, *batch: int) -> Board:
        return Board(torch.zeros(*batch, 2, 5))

    def remember(self, latent: Board, action: torch.Tensor) -> torch.Tensor:
        deter, stoch = latent.features.split([7, 3], -1)
        context: torch.Tensor = self.inner.remember(Remembered(deter, Point(stoch)), action)
        return context

    def imagine(self, context: torch.Tensor, noise: torch.Tensor | None) -> Board:
        return Board(self.inner.imagine(context, noise).features.unflatten(-1, (2, 5)))

    def believe(
        self, context: torch.Tensor, statistics: torch.Tensor, noise: torch.Tensor | None
    ) -> Board:
        believed = self.inner.believe(context, statistics, noise)
        return Board(believed.features.unflatten(-1, (2, 5)))


SENSES = {"joints": 3, "image size": 1}
CAMERAS = {"front": (24, 32, 1), "wrist": (60, 80, 3)}


@pytest.fixture(scope="module")
def exported_folded(
    tmp_path_factory: pytest.TempPathFactory, one_table_of_operators: None
) -> tuple[Agent, Path]:
    """An agent of a board as latent, two cameras, vectors, and choices as actions; its export."""
    spec = Spec((16, 16, 4), 3, has_choices=True, vectors=SENSES, fit="crop", cameras=CAMERAS)
    agent = make_agent(spec=spec, candidates=6, planning={"proposals": 2})
    agent.model.dynamics = Folded(agent.model.dynamics)  # type: ignore[assignment]
    agent = agent.changed()
    out = tmp_path_factory.mktemp("folded") / "export"
    export.write(export.record(agent), out, made_from={})
    return agent, out


@pytest.fixture
def folded(exported_folded: tuple[Agent, Path]) -> tuple[Agent, export.Runner]:
    agent, out = exported_folded
    return agent, export.Runner(out)


def test_parts_of_a_belief_may_have_any_shape_and_any_name(
    folded: tuple[Agent, export.Runner],
) -> None:
    agent, runner = folded
    assert runner.about["belief"] == {"image": {"shape": [2, 5], "initial": 0.0}}
    assert runner.initial()["image"].shape == (2, 5)
    assert export.difference(agent, runner, steps=3) <= TOLERANCE


def test_vectors_are_inputs_as_the_image_is(folded: tuple[Agent, export.Runner]) -> None:
    agent, runner = folded
    assert export.difference(agent, runner, steps=3) <= TOLERANCE
    belief, still, image = runner.initial(), runner.no_action(), np.zeros((16, 16, 4), np.uint8)
    row = {"image": image, "joints": np.zeros(3), "image size": np.zeros(1)}
    rested = (
        runner.observe(belief, still, row)["image"],
        runner.observe(belief, still, row)["image"],
    )
    moved = runner.observe(belief, still, {**row, "joints": np.ones(3)})["image"]
    assert np.array_equal(*rested)
    assert not np.array_equal(moved, rested[0])
    for wrong, sentence in (
        (image, "image: expected front, wrist, joints, image size; got image"),
        ({**row, "torque": np.zeros(1)}, "image: expected front, wrist, joints, image size; got"),
        ({**row, "joints": np.zeros(2)}, r"joints: expected float32 \[3\], got \[2\]"),
        ({**row, "joints": np.full(3, np.nan)}, "joints: expected finite numbers"),
        ({**row, "image": image[:8]}, r"image: expected .* uint8 \[16, 16, 4\]; got uint8 \[8,"),
    ):
        with pytest.raises(ValueError, match=sentence):
            runner.observe(belief, still, wrong)


# Plays with the images of two cameras as they come, and with the noise of the original.
TWO_CAMERAS = f"""{OPENED}
rows = np.load(sys.argv[2])
belief, action, plan = agent.initial(), agent.no_action(), None
for step in range(len(rows["front"])):
    row = {{name: rows[name][step] for name in ("front", "wrist", "joints", "image size")}}
    belief = agent.observe(belief, action, row, noise=rows["to_observe"][step])
    plan = agent.plan(belief, previous=plan, noise=rows["to_plan"][step])
    action = plan.first
    print(*plan.actions.flatten())
"""


def test_an_agent_of_two_cameras_plays_without_torch_as_the_original_does(
    exported_folded: tuple[Agent, Path], tmp_path: Path
) -> None:
    agent, out = exported_folded
    random, steps = np.random.default_rng(5), 5
    rows: dict[str, Any] = {
        **{n: random.integers(0, 256, (steps, *s), np.uint8) for n, s in CAMERAS.items()},
        **{name: random.standard_normal((steps, size)) for name, size in SENSES.items()},
    }
    noises: dict[str, list[Any]] = {"to_observe": [], "to_plan": []}
    belief, plan, done = agent.initial(), None, agent.no_action()
    expected = []
    for step in range(steps):
        with graphs.Drawn() as to_observe:
            row = {name: values[step] for name, values in rows.items()}
            belief = agent.observe(belief, done, row, seed=step)
        with graphs.Drawn() as to_plan:
            plan = agent.plan(belief, previous=plan, seed=step)
        noises["to_observe"].append(to_observe.noise.numpy())
        noises["to_plan"].append(to_plan.noise.numpy())
        expected.append(plan.actions.flatten().tolist())
        done = plan.first
    np.savez(tmp_path / "rows.npz", **rows, **noises)
    said = subprocess.run(
        [sys.executable, "-c", TWO_CAMERAS, out, tmp_path / "rows.npz"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [[float(word) for word in line.split()] for line in said.stdout.splitlines()] == expected
    assert len({tuple(actions) for actions in expected}) > 1


def test_choices_are_planned_as_the_original_plans_them(
    folded: tuple[Agent, export.Runner],
) -> None:
    agent, runner = folded
    assert export.difference(agent, runner, steps=6) <= TOLERANCE
    assert (runner.about["action_low"], runner.about["action_high"]) == (0.0, 1.0)
    actions = runner.plan(runner.initial()).actions
    assert actions.sum(-1).tolist() == [1.0, 1.0]
    assert set(actions.ravel().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="an action of this agent is a choice, which has no low"):
        runner.plan(runner.initial(), limits=Limits(low=0.5))
    with pytest.raises(ValueError, match="agent: its actions are one of 3 choices"):
        Controller(runner, 10, [0] * 3, [1] * 3, 1.0, max_age_s=1.0)
    plans = {runner.plan(runner.initial(), seed=seed).elites.tobytes() for seed in range(6)}
    assert len(plans) > 1


def test_the_log_of_the_normal_distribution_is_as_exact_as_float32_allows() -> None:
    x = torch.linspace(-6, 6, 20_001)
    exact = torch.special.log_ndtr(x.double())
    torch.testing.assert_close(log_normal_cdf(x).double(), exact, rtol=1e-5, atol=0)
    assert log_normal_cdf(torch.tensor([-20.0, 9.0])).isfinite().all()


# ---------------------------------------------------------------------------- all that plan takes


def seen_by(agent: Agent, runner: export.Runner, seed: int) -> tuple[Any, imagined.Belief]:
    """The beliefs of both after the same image."""
    image = np.random.default_rng(seed).integers(0, 256, SPEC.image, np.uint8)
    still = agent.no_action()
    theirs = agent.observe(agent.initial(), still, image)
    return theirs, runner.observe(runner.initial(), still, image)


def test_with_a_score_limits_and_a_delay_it_plans_as_the_original(
    exported: tuple[Agent, Path],
) -> None:
    agent, out = exported
    agent = agent.changed(planning=dataclasses.replace(agent.planning, precision="float32"))
    runner = export.Runner(out)
    theirs, ours = seen_by(agent, runner, 1)
    goal = np.random.default_rng(2).integers(0, 256, SPEC.image, np.uint8)
    delay = np.float32([[0.3, -0.3], [0.9, 0.1]])
    limits = Limits(low=-0.5, high=[0.5, 1.0], max_change=0.2).after([0.1, 0.2])

    def closer(scored: Any) -> Any:
        return lambda latents, actions: scored(latents, actions) - 0.1 * (actions**2).sum(-1)

    def half(latents: Any, actions: Any) -> Any:
        return latents[..., 0] < np.median(np.asarray(latents[..., 0]))

    for given, own in (
        ({"limits": limits}, {}),
        ({"delay": delay}, {}),
        ({"limits": limits, "delay": delay}, {}),
        ({"score": agent.goal(goal)}, {"score": runner.goal(goal)}),
        ({"score": closer(agent.reward)}, {"score": closer(runner.reward)}),
        ({"limits": Limits(allowed=half)}, {}),
    ):
        with graphs.Drawn() as drawn:
            expected = agent.plan(theirs, seed=3, **given)
        plan = runner.plan(ours, noise=drawn.noise.numpy(), **{**given, **own})
        np.testing.assert_allclose(plan.actions, expected.actions, atol=TOLERANCE)
        np.testing.assert_allclose(plan.value, float(expected.value), atol=1e-3)
        assert plan.is_allowed == bool(expected.is_allowed)
    with pytest.raises(ValueError, match=r"delay: expected \[any, 2\], got \[2\]"):
        runner.plan(ours, delay=np.zeros(2))
    with pytest.raises(ValueError, match="max_change needs the action that was done last"):
        runner.plan(ours, limits=Limits(max_change=0.1))
    with pytest.raises(ValueError, match=r"score: expected \[1, N, L\]"):
        runner.plan(ours, score=lambda latents, actions: actions)


def test_a_row_without_an_image_and_the_policy_are_those_of_the_original(
    exported: tuple[Agent, Path],
) -> None:
    agent, out = exported
    runner = export.Runner(out)
    theirs, ours = seen_by(agent, runner, 4)
    action = np.float32([0.4, -0.9])
    np.testing.assert_allclose(runner.act(ours), agent.act(theirs), atol=TOLERANCE)
    expected = leaves(agent.imagine(theirs, action))
    for name, part in runner.imagine(ours, action).items():
        np.testing.assert_allclose(part, expected[name], atol=TOLERANCE)
    assert runner.is_finite(ours)
    assert not runner.is_finite({**ours, "deter": ours["deter"] * np.nan})


class Hours:
    """A clock that advances by a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_search_ends_at_its_deadline_and_says_where_the_plan_comes_from(
    exported: tuple[Agent, Path], caplog: pytest.LogCaptureFixture
) -> None:
    agent, out = exported
    runner = export.Runner(out, clock=Hours())
    ours = runner.observe(runner.initial(), runner.no_action(), np.zeros(SPEC.image, np.uint8))
    whole = runner.plan(ours, seed=1, deadline_ms=1e6)
    assert (whole.origin, whole.iterations) == ("search", agent.planner.iterations)
    assert np.array_equal(whole.actions, runner.plan(ours, seed=1).actions)
    runner.timing = PlanTiming(4)  # half of the candidates
    cut = runner.plan(ours, seed=1, deadline_ms=6500)
    assert (cut.origin, cut.iterations) == ("search", 0)
    runner.timing = PlanTiming(4, slice_s=60.0, proposing_s=60.0)
    hasty = runner.plan(ours, previous=whole, seed=1, deadline_ms=30_000)
    assert (hasty.origin, np.isnan(hasty.value)) == ("policy", True)
    np.testing.assert_allclose(hasty.first, runner.act(ours), atol=1e-6)
    for _ in range(9):
        runner.timing = PlanTiming(4, slice_s=60.0, proposing_s=60.0, following_s=60.0)
        late = runner.plan(ours, previous=whole, seed=1, deadline_ms=30_000)
        assert late.origin == "previous"
    if agent.planning.warm_start:
        np.testing.assert_array_equal(late.actions[:-1], whole.actions[1:])
    assert len(caplog.records) == 1
    with pytest.raises(ValueError, match="deadline_ms: expected a finite number above 0"):
        runner.plan(ours, deadline_ms=-3)
    real = export.Runner(out)
    real.warm_up()
    assert real.timing.slice_s > 0
    assert repr(real) == repr(agent).replace("Agent", "Runner")
    assert repr(pickle.loads(pickle.dumps(real))) == repr(real)


# Drives a motor where neither torch nor a simulator can be imported: once with the package's
# controller, once with the one that travels with the export.
MOTOR = """
import sys
for name in ("torch", "dm_control", "mujoco", "einops", "safetensors", "yaml"):
    sys.modules[name] = None
import numpy as np
sys.path.insert(0, sys.argv[1])
from runner import Controller, Runner
if sys.argv[2] == "package":
    from worldmodel.robot import Controller
else:
    sys.modules["worldmodel"] = None
assert sys.argv[2] in Controller.__module__ + "package"
random = np.random.default_rng(0)
if __name__ == "__main__":
    low, high = [-2.0, 0.0], [2.0, 1.0]
    with Controller(Runner(sys.argv[1]), 0.05, low, high, 0.25, max_age_s=999.0) as controller:
        last = np.zeros(2)
        for step in range(40):
            image = random.integers(0, 256, (16, 16, 3), np.uint8)
            action = controller.step("no image" if step == 20 else image)
            assert np.isfinite(action).all() and (np.abs(action - last) <= 0.25).all()
            assert (low <= action).all() and (action <= high).all()
            last = action
        counts = controller.counts
        assert counts["bad_image"] == 1 and counts["died"] == 0 and counts["planner_error"] == 0
        assert counts["plan"] >= 20, counts  # so slow that every plan is awaited before step 20
        assert counts["plan"] + counts["shifted"] + counts["hold"] == 40
    assert not {"torch", "mujoco"} & {name for name, found in sys.modules.items() if found}
    print(repr(controller))
"""


@pytest.mark.parametrize("whose", ["package", "worldmodel_robot"])
def test_a_controller_drives_a_motor_without_torch(
    whose: str, exported: tuple[Agent, Path], tmp_path: Path
) -> None:
    copied = shutil.copytree(exported[1], tmp_path / "robot")
    program = tmp_path / "motor.py"
    program.write_text(MOTOR)
    root = Path(__file__).parents[1]
    said = subprocess.run(
        [sys.executable, program, copied, whose],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Controller(0.05 Hz, 2 motors, ")
    assert said.stdout.endswith("40 steps, 1 fault)\n")


# ---------------------------------------------------------------------------- what is refused


def test_the_inputs_of_a_robot_are_checked(exported: tuple[Agent, Path]) -> None:
    runner = export.Runner(exported[1])
    belief, still = runner.initial(), runner.no_action()
    image = np.zeros((16, 16, 3), np.uint8)
    for wrong in (image[:8], image.astype(np.float32), image[None]):
        with pytest.raises(ValueError, match="image: expected uint8"):
            runner.observe(belief, still, wrong)
    with pytest.raises(ValueError, match="action: expected float32"):
        runner.observe(belief, np.zeros(3, np.float32), image)
    with pytest.raises(ValueError, match="action: expected finite numbers"):
        runner.observe(belief, still * np.nan, image)
    with pytest.raises(ValueError, match="noise: expected float32"):
        runner.plan(belief, noise=np.zeros(3, np.float32))


def test_files_that_are_not_what_was_written(exported: tuple[Agent, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no export\.json, so it is not an exported agent"):
        export.Runner(tmp_path)
    copied = shutil.copytree(exported[1], tmp_path / "export")
    graph = copied / "score.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(RuntimeError, match=r"score\.onnx: its content has changed"):
        export.Runner(copied)
    about = json.loads((copied / "export.json").read_text())
    (copied / "export.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(ValueError, match="written in format 99, this runner reads"):
        export.Runner(copied)


@pytest.mark.parametrize("kind", ["gradient", "shooting"])
def test_a_planner_that_cannot_be_exported_names_those_that_can(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"planner.kind: {kind} cannot .* cem, icem, mppi"):
        export.record(make_agent(kind=kind))


def test_a_draw_that_is_not_normal_is_noticed() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ConfigError, match="draws with uniform_"), graphs.Drawn():
        torch.zeros(3).uniform_(generator=generator)


# ---------------------------------------------------------------------------- the folder


def test_an_error_leaves_the_older_export(
    recorded: tuple[Agent, graphs.Graphs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: Any) -> None:
        raise OSError("no space left on device")

    out = tmp_path / "export"
    with monkeypatch.context() as patch:
        patch.setattr(folder.files, "write_new", full)
        with pytest.raises(OSError, match="no space"):
            export.write(recorded[1], out, made_from={})
    assert not list(tmp_path.iterdir())
    export.write(recorded[1], out, made_from={"first": 1})
    with monkeypatch.context() as patch:
        patch.setattr(folder.files, "write_new", full)
        with pytest.raises(OSError, match="no space"):
            export.write(recorded[1], out, made_from={"second": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert json.loads((out / "export.json").read_text())["made_from"] == {"first": 1}
    export.write(recorded[1], out, made_from={"third": 3}, bits=8)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    names = {f"{name}.onnx.gz" for name in recorded[1].models}
    names |= {"export.json", "runner.py", "worldmodel_robot"}
    assert {path.name for path in out.iterdir()} == names


def test_a_folder_of_something_else_is_left_alone(
    recorded: tuple[Agent, graphs.Graphs], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="holds something else than an export"):
        export.write(recorded[1], tmp_path, made_from={})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_graph_holds_nothing_of_the_machine_it_was_made_on(
    recorded: tuple[Agent, graphs.Graphs],
) -> None:
    for model in recorded[1].models.values():
        assert str(Path(graphs.__file__).parents[2]).encode() not in model.SerializeToString()


# ---------------------------------------------------------------------------- compression


def test_eight_bits_are_off_by_at_most_half_a_step() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 7, 3)).astype(np.float32)
    weights[:, 2] = 0.0
    integers, scale = quantised(weights, axis=1)
    assert integers.dtype == np.int8
    assert scale.shape == (7,)
    error = np.abs(integers * scale[:, None] - weights)
    assert (error <= scale[:, None] / 2 + 1e-7).all()
    assert not integers[:, 2].any()
    assert np.abs(integers).max((0, 2)).tolist() == [127, 127, 0, 127, 127, 127, 127]


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Transpose"])
def test_a_compressed_product_is_that_of_the_rounded_weights(kind: str) -> None:
    random = np.random.default_rng(0)
    x, weights = (random.standard_normal(shape, np.float32) for shape in ((2, 24), (24, 40)))
    weights *= np.geomspace(0.01, 10, 40, dtype=np.float32)  # a scale for each output, or else
    weights[::2] = 0.0
    stored = weights if kind == "MatMul" else np.ascontiguousarray(weights.T)
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "Gemm": [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "Transpose": [
            helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "turned"], ["y"]),
        ],
    }
    model = helper.make_model(
        helper.make_graph(
            nodes[kind],
            "product",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (2, 40))],
            [numpy_helper.from_array(stored, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    smaller = export.compress(model)
    integers, scale = quantised(weights, axis=1)
    options = onnx_graph.session_options(threads=1)
    session = onnxruntime.InferenceSession(smaller.SerializeToString(), options)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ (integers * scale), rtol=1e-4, atol=1e-4)
    assert {t.data_type for t in smaller.graph.initializer if len(t.dims) == 2} == {
        onnx.TensorProto.INT8
    }
    assert len(smaller.SerializeToString()) < len(model.SerializeToString()) / 2


@pytest.mark.slow
def test_pruned_weights_are_zero_in_the_graphs(tmp_path: Path) -> None:
    agent = make_agent()
    smaller = pruning.pruned(agent, 0.5, [make_episode()])
    made, out = export.record(smaller), tmp_path / "export"
    for bits in (32, 8):
        assert export.write(made, out, made_from={}, bits=bits, prune=0.5).zeros > 0.4
        files = [gzip.decompress(path.read_bytes()) for path in out.glob("*.onnx.gz")]
        graph = [
            tensor for file in files for tensor in onnx.load_from_string(file).graph.initializer
        ]
        asked = pruning.record_inputs(smaller.model, pruning.walk_along(smaller, [make_episode()]))
        for name in asked.inputs:
            weight = smaller.model.get_parameter(f"{name}.weight")
            assert is_zero_where(weight.numpy() == 0, graph), name
    export.write(made, out, made_from={}, prune=0.5)
    assert export.difference(smaller, export.Runner(out), steps=3) <= TOLERANCE


def is_zero_where(zeros: NDArray[np.bool_], graph: list[Any]) -> bool:
    """True if a matrix of the graph, or its transpose, is zero at ``zeros``."""
    tensors = [numpy_helper.to_array(tensor) for tensor in graph]
    patterns = (zeros, zeros.T)
    return any(not one[p].any() for p in patterns for one in tensors if one.shape == p.shape)


def test_every_product_of_an_agent_is_compressed(
    recorded: tuple[Agent, graphs.Graphs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, made = recorded
    monkeypatch.setattr(compression, "SMALLEST_WEIGHT", 1)
    for model in made.models.values():
        smaller = export.compress(model)
        left = {t.name: t for t in smaller.graph.initializer if t.data_type == 1}
        for node in smaller.graph.node:
            if node.op_type in ("Conv", "MatMul", "Gemm"):
                assert node.input[1] not in left
    out = tmp_path / "export"
    export.write(made, out, made_from={}, bits=8)
    off = export.difference(agent, export.Runner(out), steps=1)
    assert TOLERANCE < off < 2.0  # the weights changed, but not too much


# ---------------------------------------------------------------------------- the command


def tell(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", make_agent())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--to", "tflite"], "onnx"),
        (["--bits", "16"], "bits: expected one of 32, 8, got 16"),
        (["--prune", "1.5"], "prune: expected 0 or more and less than 1, got 1.5"),
        (["--prune", "nan"], "prune: expected 0 or more"),
        (["--episodes", "-1"], "episodes: expected 0 or more, got -1"),
        (["--planner", "gradient"], "planner: expected one of cem, icem, mppi; got gradient"),
    ],
    ids=str,
)
def test_a_mistake_is_one_screen(
    words: list[str], answer: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = tell(capsys, "export", run, *words)
    assert code == 2
    assert out == ""
    assert answer in " ".join(err.replace("│", " ").split())
    assert not (run / "export").exists()


def test_a_run_without_a_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints")
    code, _, err = tell(capsys, "export", run)
    assert (code, "has no checkpoint yet" in err) == (2, True)
    assert tell(capsys, "export", run / "nowhere")[0] == 2


def test_a_missing_library_is_reported_with_the_line_to_type(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "onnxscript" else find_spec(name, package)

    monkeypatch.setattr(graphs.importlib.util, "find_spec", find)
    code, _, err = tell(capsys, "export", run)
    assert code == 2
    assert err == "worldmodel: export: onnxscript not installed; type: pip install onnxscript\n"


def test_a_planner_without_a_graph_is_refused_with_the_option_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "shooting", make_agent(kind="shooting"))
    code, _, err = tell(capsys, "export", run)
    assert code == 2
    assert "shooting cannot be exported" in err
    assert "--planner mppi" in err
    assert not (run / "export").exists()


def test_the_command_writes_a_folder_that_runs(
    tmp_path: Path,
    recorded: tuple[Agent, graphs.Graphs],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tmp_path / "run", recorded[0])
    (run / "replay").mkdir()
    write_episode(run / "replay" / "000000.npz", make_episode())
    monkeypatch.setattr("worldmodel.export.comparison.record", lambda agent: recorded[1])
    code, out, err = tell(capsys, "export", run, "--bits", "8", "--prune", "0.5", "--episodes", "0")
    assert code == 0
    assert err.splitlines() == [
        "recording the agent as graphs",
        "comparing the graphs with the agent, step by step",
        "pruning 50% of the weights, and recording again",
    ]
    assert out.splitlines()[0].split() == ["bytes", "zeros"]  # nothing was played
    assert "onnx, 8 bits, 50% pruned" in out
    assert "float32 differs from torch by at most" in out
    runner = export.Runner(run / "export")
    assert (runner.about["bits"], runner.about["pruned"]) == (8, 0.5)
    assert runner.about["made_from"]["task"] == "toy"
    assert runner.plan(runner.initial()).actions.shape == (2, 2)


class Joints(Painter):
    """The painter, with joints."""

    def reset(self, seed: int | None = None) -> Step:
        return dataclasses.replace(super().reset(seed), vectors={"joints": np.zeros(3, np.float32)})

    def step(self, action: NDArray[np.float32]) -> Step:
        row = super().step(action)
        return dataclasses.replace(row, vectors={"joints": np.full(3, self.time, np.float32)})


@pytest.mark.parametrize("env", [Painter, Joints])
def test_a_runner_plays_whole_episodes(env: type[Painter]) -> None:
    """Without graphs: the calls of an agent are translated to those of a runner."""
    spec = Spec((16, 16, 3), 2, vectors={"joints": 3} if env is Joints else {})
    asked: list[Any] = []

    class Robot:
        def initial(self) -> imagined.Belief:
            return {"deter": np.zeros(1, np.float32)}

        def observe(self, belief: Any, action: Any, image: Any, seed: int) -> imagined.Belief:
            assert action.shape == (2,)
            asked.append(
                {name: part.shape for name, part in image.items()} if env is Joints else image.shape
            )
            return {"deter": belief["deter"] + 1}

        def plan(self, belief: Any, previous: Any, seed: int) -> RunnersPlan:
            assert (previous is None) == (belief["deter"] == 1)
            actions = np.full((3, 2), 0.5, np.float32)
            return RunnersPlan(actions, 0.0, actions[None], 1, 2.0)

    actor = comparison.OneAtATime(Robot(), spec)  # type: ignore[arg-type]
    played = evaluate(actor, env(), 2)  # type: ignore[arg-type]
    assert played.returns.tolist() == [4.0, 4.0]
    assert set(played.plan_milliseconds) == {2.0}
    row = (16, 16, 3)
    assert asked == [{"image": row, "joints": (3,)} if env is Joints else row] * 16


@pytest.mark.slow
def test_both_are_played_from_the_same_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text(yaml.safe_dump({**TINY, "env": {"image_size": 16, "action_repeat": 8}}))
    run = tmp_path / "run"
    assert main(["train", str(preset), "--steps", "320", "--run", str(run)]) == 0
    code, out, err = tell(capsys, "export", run, "--bits", "8", "--episodes", "2")
    assert code == 0
    assert [line.split(", return")[0] for line in err.splitlines() if "episode" in line] == [
        f"{name}: episode {number}/2"
        for name in ("onnx", "torch", "onnx, 8 bits, 0% pruned")
        for number in (1, 2)
    ]
    rows = [line for line in out.splitlines() if "over 2 episodes" in line]
    assert len(rows) == 3
    # Every line except the baseline states its change.
    assert [line.count("±") for line in rows] == [2, 1, 2]
