"""Fixtures for all tests: small models, and an environment with rows known in advance."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import measure
from worldmodel.behaviours.imagined import act_in_imagination
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import suite
from worldmodel.models import WorldModel, build
from worldmodel.models.latents import Point, Remembered
from worldmodel.models.policy import DrawnPolicy
from worldmodel.structs import Spec, Step

TINY = {
    "task": "toy",
    "env": {"image_size": 16},
    "replay": {"batch": 3, "length": 5, "memory_gb": 0.1},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"deter_size": 7, "stoch_size": 3, "hidden_size": 11},
        "posterior": {"hidden_size": 11},
        "reward": {"layers": 1, "size": 6},
        "discount": {"layers": 1, "size": 6},
        "value": {"layers": 1, "size": 6},
        "policy": {"layers": 1, "size": 6},
    },
    "behaviour": {"imagined_states": 6, "horizon": 3},
    "learner": {"precision": "float32"},
    "planner": {
        "horizon": 4,
        "iterations": 2,
        "candidates": 8,
        "elites": 3,
    },
    "planning": {"proposals": 2, "precision": "float32"},
    "loop": {
        "seed_episodes": 2,
        "seed_updates": 3,
        "updates": 25,
        "evaluate_every": 200,
        "evaluate_episodes": 1,
    },
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on a busy machine two threads can be many times slower


@pytest.fixture
def tiny() -> Config:
    return read(Config(), TINY)


@pytest.fixture
def model(tiny: Config) -> WorldModel:
    return build(tiny.model, Spec((16, 16, 3), 2))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window: the system's own, or playwright's."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'worldmodel[browser]'"
    )
    own = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as play:
        try:
            opened = play.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium; to have one: playwright install chromium ({error})")
        yield opened
        opened.close()


class NewProcess(NamedTuple):
    """What a new process loads: the names of its modules after each step, and its stderr."""

    modules: dict[str, set[str]]
    stderr: str


STEPS_OF_A_NEW_PROCESS = {  # the lightest first
    "package": "import worldmodel",
    "public names": "from worldmodel import *",
    "toy": "import worldmodel.envs; worldmodel.envs.make_env('toy').reset(0)",
    "report": "import worldmodel.analysis, worldmodel.report",
}


def modules_after(steps: Mapping[str, str]) -> NewProcess:
    """Do the steps in one new process."""
    program = ["import json, sys", "loaded = {}"]
    for name, step in steps.items():
        program += [step, f"loaded[{name!r}] = list(sys.modules)"]
    program.append("print(json.dumps(loaded))")
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    loaded = json.loads(ended.stdout.splitlines()[-1])
    return NewProcess({name: set(modules) for name, modules in loaded.items()}, ended.stderr)


@pytest.fixture(scope="session")
def new_process() -> NewProcess:
    """One process for several tests of light imports: importing torch takes 2 s."""
    return modules_after(STEPS_OF_A_NEW_PROCESS)


@pytest.fixture(scope="session")
def one_table_of_operators() -> Iterator[None]:
    """Recording a graph builds torch's table of ONNX operators, which takes seconds: once here."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    build_once = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(build_once))
        yield


def report_quickly(patch: pytest.MonkeyPatch) -> None:
    """Reports measure a few windows and draw no figures, which cost ten seconds of a processor."""
    few = functools.partial(measure, windows=4)
    patch.setattr("worldmodel.report.compose.measure", few)
    patch.setitem(sys.modules, "torch.utils.tensorboard", None)
    patch.setitem(sys.modules, "matplotlib", None)


def parts_of(agent: Agent) -> tuple[Any, ...]:
    """The arguments for another class of agent with the same model."""
    return agent.model, agent.planner, agent.planning, agent.discount_rate


class Answer(torch.nn.Module):
    """A head that is a function of the test."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.function(features)


class Echo(torch.nn.Module):
    """Dynamics whose random part is the last action and whose recurrent part never changes."""

    def __init__(self, action_size: int) -> None:
        super().__init__()
        self.noise_size = action_size

    def at_rest(self, rows: int, memory_size: int) -> Remembered:
        zero = torch.zeros(rows, self.noise_size)
        return Remembered(torch.zeros(rows, memory_size), Point(zero))

    def remember(self, latent: Remembered, action: torch.Tensor) -> Remembered:
        return Remembered(latent.deter, Point(action))

    def imagine(self, context: Remembered, noise: torch.Tensor | None) -> Remembered:
        return context


def practise(
    model: WorldModel, policy: DrawnPolicy, starts: Remembered, *, rate: float, updates: int
) -> None:
    """Train a policy on imagined returns alone."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        imagined = act_in_imagination(
            model,
            policy,
            starts,
            horizon=2,
            return_lambda=0.9,
            discount_rate=0.9,
            generator=generator,
        )
        optimizer.zero_grad()
        (-imagined.returns.mean()).backward()
        optimizer.step()


class Painter:
    """Paints the action that led to a row into its image; the reward is the action's first part.

    Red is the first action, green the second, blue the time.
    """

    action_low = np.array([-1.0, -1.0], np.float32)
    action_high = np.array([1.0, 1.0], np.float32)

    def __init__(self, length: int = 9) -> None:
        self.length = length
        self.time = 0

    def reset(self, seed: int | None = None) -> Step:
        self.time = 0
        return Step(image=self.paint(np.zeros(2, np.float32)))

    def step(self, action: NDArray[np.float32]) -> Step:
        self.time += 1
        return Step(
            image=self.paint(action),
            reward=float(action[0]),
            is_last=self.time == self.length - 1,
            env_steps=2,
        )

    def paint(self, action: NDArray[np.float32]) -> NDArray[np.uint8]:
        image = np.zeros((16, 16, 3), np.uint8)
        image[..., :2] = np.round(127 + 100 * action)
        image[..., 2] = self.time
        return image


@pytest.fixture
def painter() -> Painter:
    return Painter()


class Blank:
    """A renderer of grey images, for tests without pictures: a real one starts in a second."""

    name = "blank"

    def start(self) -> None: ...

    def render(self) -> NDArray[np.uint8]:
        return np.full((16, 16, 3), 127, np.uint8)

    def close(self) -> None: ...


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the renderer of the simulator by a blank one."""
    monkeypatch.setattr(suite, "make_renderer", lambda *given: Blank())
