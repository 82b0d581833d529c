"""Observe and plan with an exported agent. This needs numpy and onnxruntime only.

This file is in the same folder as the graphs that it runs; copy the folder to a robot::

    from runner import Runner                                   # the folder is on sys.path

    agent = Runner("export")
    belief = agent.initial()
    action, plan = agent.no_action(), None
    while True:
        belief = agent.observe(belief, action, camera())        # what was done, what was seen
        plan = agent.plan(belief, previous=plan)
        action = robot.execute(plan.first)                      # the robot may clip or refuse
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 2  # of the folder; a runner refuses newer ones
ABOUT = "export.json"

Floats = NDArray[np.float32]
Belief = dict[str, Floats]
"""The parts of a latent by name; the caller keeps it, so one runner serves many robots."""
Observation = NDArray[np.uint8] | Mapping[str, NDArray[Any]]
"""An image, or ``{"image": image, "joints": [V], ...}`` for an agent that takes vectors too."""


@dataclass(frozen=True)
class Plan:
    """A plan: the chosen actions, and the elites of the search."""

    actions: Floats  # [L, A]
    value: float  # the mean return of the elites, as the model imagines it
    elites: Floats  # [K, L, A] the best candidates of the last iteration, best first
    iterations: int
    milliseconds: float

    @property
    def first(self) -> Floats:
        """[A] the action to execute now."""
        first: Floats = self.actions[0]
        return first


class Runner:
    """An exported agent, for one robot: the same belief and noise give the same plan.

    ``threads``: of onnxruntime. Planning is many small products; a second thread rarely helps.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self.about: dict[str, Any] = _read_about(folder)
        spec = self.about["spec"]
        self.image_shape: tuple[int, ...] = tuple(spec["image"])
        self.action_size: int = spec["action_size"]
        self.vectors: dict[str, int] = spec["vectors"]  # sizes by name
        self.horizon: int = self.about["planner"]["horizon"]
        self._observe = _Graph(folder, self.about["graphs"]["observe"], threads)
        self._plan = _Graph(folder, self.about["graphs"]["plan"], threads)

    def initial(self) -> Belief:
        """The belief before the first image."""
        return {
            name: np.full(part["shape"], part["initial"], np.float32)
            for name, part in self.about["belief"].items()
        }

    def no_action(self) -> Floats:
        """[A] the action before the first image."""
        return np.zeros(self.action_size, np.float32)

    def observe(
        self,
        belief: Belief,
        action: NDArray[np.floating],
        image: Observation,
        seed: int = 0,
        noise: Floats | None = None,
    ) -> Belief:
        """The belief after ``action`` [A] was *done* and ``image`` [H, W, C] was seen.

        An agent that learned from vectors too takes ``{"image": image, "joints": [V], ...}``.
        Most agents follow the mean; one that draws takes ``seed`` or ``noise`` as ``plan`` does.
        """
        seen = self._checked(image if isinstance(image, Mapping) else {"image": image})
        action = np.asarray(action, np.float32)
        if action.shape != (self.action_size,):
            raise ValueError(
                f"action: expected float32 [{self.action_size}], got {list(action.shape)}"
            )
        if not np.isfinite(action).all():
            raise ValueError(f"action: expected finite numbers, got {action.tolist()}")
        drawn = self._draw("observe", seed, noise)
        outputs = self._observe({**_named(belief), "action": action, **seen, "noise": drawn})
        return {name.removeprefix("belief."): part for name, part in outputs.items()}

    def plan(
        self,
        belief: Belief,
        previous: Plan | None = None,
        seed: int = 0,
        noise: Floats | None = None,
    ) -> Plan:
        """Search for the actions with the best imagined return.

        ``previous``: the last plan, which starts the search one step later. ``seed``: the same
        belief, plan and seed give the same plan. ``noise``: standard normal numbers to use instead
        of those that follow from the seed, ``about["noise"]["plan"]`` of them.
        """
        begun = time.perf_counter()
        drawn = self._draw("plan", seed, noise)
        shape = (self.horizon, self.action_size)
        before = np.zeros(shape, np.float32) if previous is None else previous.actions
        found = self._plan({**_named(belief), "previous": before, "noise": drawn})
        return Plan(
            actions=found["actions"],
            value=float(found["value"]),
            elites=found["elites"],
            iterations=self.about["planner"]["iterations"],
            milliseconds=(time.perf_counter() - begun) * 1e3,
        )

    def _checked(self, seen: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The image and the vectors [V], by the names of the graph's inputs."""
        if seen.keys() != {"image", *self.vectors}:
            expected, got = ", ".join(["image", *self.vectors]), ", ".join(seen)
            raise ValueError(f"image: expected {expected}; got {got}")
        image = np.asarray(seen["image"])
        if image.dtype != np.uint8 or image.shape != self.image_shape:
            raise ValueError(
                f"image: expected uint8 {list(self.image_shape)},"
                f" got {image.dtype} {list(image.shape)}"
            )
        checked = {"image": image}
        for name, size in self.vectors.items():
            vector = np.asarray(seen[name], np.float32)
            if vector.shape != (size,):
                raise ValueError(f"{name}: expected float32 [{size}], got {list(vector.shape)}")
            if not np.isfinite(vector).all():
                raise ValueError(f"{name}: expected finite numbers, got {vector.tolist()}")
            checked[f"vectors.{name}"] = vector
        return checked

    def _draw(self, verb: str, seed: int, given: Floats | None) -> Floats:
        """[M] what is given, or what follows from the seed"""
        count: int = self.about["noise"][verb]
        if given is None:
            return np.random.default_rng(seed).standard_normal(count, np.float32)
        if given.dtype != np.float32 or given.shape != (count,):
            raise ValueError(
                f"noise: expected float32 [{count}], got {given.dtype} {list(given.shape)}"
            )
        return given


def _named(belief: Belief) -> dict[str, Floats]:
    """By the names of the graphs' inputs: a part of a belief may be called ``image`` itself."""
    return {f"belief.{name}": part for name, part in belief.items()}


class _Graph:
    """One ONNX file: arrays go in as ``in.name``, and come out as ``out.name``."""

    def __init__(self, folder: Path, file: dict[str, Any], threads: int) -> None:
        import onnxruntime

        path = folder / file["file"]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise RuntimeError(f"{path}: its content has changed (sha256); export it again")
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        self._session = onnxruntime.InferenceSession(
            content, session_options(threads), providers=["CPUExecutionProvider"]
        )
        renamed: dict[str, str] = file.get("renamed", {})  # by files of format 1
        self._inputs = {
            part.name: renamed.get(part.name, part.name).removeprefix("in.")
            for part in self._session.get_inputs()
        }
        self._outputs = {
            part.name: renamed.get(part.name, part.name).removeprefix("out.")
            for part in self._session.get_outputs()
        }

    def __call__(self, arrays: dict[str, NDArray[Any]]) -> dict[str, Floats]:
        feed = {name: arrays[ours] for name, ours in self._inputs.items()}
        found = self._session.run(list(self._outputs), feed)
        return dict(zip(self._outputs.values(), found, strict=True))


def session_options(threads: int) -> Any:
    """Options with which 8-bit weights become floats once, while loading.

    By default onnxruntime would round the activations too, and multiply integers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {ABOUT}, so it is not an exported agent")
    about: dict[str, Any] = json.loads(path.read_text())
    if about["format"] == 1:
        return _of_format_1(about)
    if about["format"] != FORMAT:
        raise ValueError(
            f"{path}: written in format {about['format']}, this runner reads 1 to {FORMAT};"
            " use the runner.py of its own folder"
        )
    return about


def _of_format_1(about: dict[str, Any]) -> dict[str, Any]:
    """As format 2 says it: parts of a belief had one axis, and their inputs no ``belief.``"""
    spec = {
        "image": about["image"],
        "action_size": about["action_size"],
        "has_choices": False,
        "vectors": {},
    }
    belief = {
        name: {"shape": [part["size"]], "initial": part["initial"]}
        for name, part in about["belief"].items()
    }
    renamed = {
        f"{side}.{name}": f"{side}.belief.{name}" for name in belief for side in ("in", "out")
    }
    graphs = {verb: {**file, "renamed": renamed} for verb, file in about["graphs"].items()}
    return {**about, "spec": spec, "belief": belief, "graphs": graphs}
