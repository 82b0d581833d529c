"""What an export costs and scores, beside the agent that it was made from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment
from worldmodel.export.check import difference
from worldmodel.export.folder import write
from worldmodel.export.graphs import record
from worldmodel.export.pruning import pruned
from worldmodel.export.runner import Runner
from worldmodel.planners import of_kind
from worldmodel.rollout import Evaluated, evaluate
from worldmodel.structs import Episode

CHECKED_STEPS = 5
HEADER = ("", "bytes", "zeros", "plan ms p50", "p99", "return", "change from onnx")


@dataclass(frozen=True)
class Shown:
    """What a person sees of it."""

    rows: Sequence[Sequence[str]]  # the header first
    difference: float  # of the float32 graphs from torch


def with_planner(agent: Agent, kind: str) -> Agent:
    """The same model, searched by another planner with the run's other settings."""
    planner = of_kind(kind, agent.config.planner)
    return Agent(agent.model, dataclasses.replace(agent.config, planner=planner))


def export(
    agent: Agent,
    out: Path,
    made_from: Mapping[str, Any],
    bits: int,
    prune: float,
    lived: Sequence[Episode],
    env: Environment | None,
    episodes: int,
) -> Shown:
    """Write it to ``out``, and play each version from the same starts if there is an ``env``.

    ``lived``: episodes of the run, which pruning judges the weights on.
    """
    graphs = record(agent)
    with tempfile.TemporaryDirectory() as folder:
        plain = write(graphs, Path(folder) / "float32", made_from=made_from)
        runner = Runner(plain.path)
        largest = difference(agent, runner, CHECKED_STEPS)
        weights = sum(part.nbytes for part in agent.model.state_dict().values())
        before = _play(runner, env, episodes)
        rows = [
            HEADER,
            _row("torch, decoder included", weights, None, _play(agent, env, episodes), before),
            _row("onnx", plain.graph_bytes, plain.zeros, before, None),
        ]
    if prune > 0:
        graphs = record(pruned(agent, prune, lived))
    written = write(graphs, out, made_from=made_from, bits=bits, prune=prune)
    if bits < 32 or prune > 0:
        name = f"onnx, {bits} bits, {prune:.0%} pruned"
        after = _play(Runner(out), env, episodes)
        rows.append(_row(name, written.graph_bytes, written.zeros, after, before))
    return Shown(rows, largest)


def _play(actor: Agent | Runner, env: Environment | None, episodes: int) -> Evaluated | None:
    if env is None:
        return None
    return evaluate(cast(Agent, actor), env, episodes)  # a runner has the same verbs


def _row(
    name: str, size: int, zeros: float | None, played: Evaluated | None, beside: Evaluated | None
) -> tuple[str, ...]:
    """``beside``: what the change is from, episode by episode."""
    share = "" if zeros is None else f"{zeros:.1%}"
    if played is None:
        return name, f"{size:,}", share, "", "", "", ""
    p50, p99 = np.percentile(played.plan_milliseconds, (50, 99))
    score = f"{_spread(played.returns)} over {len(played.returns)} episodes"
    change = "" if beside is None else _spread(played.returns - beside.returns)
    return name, f"{size:,}", share, f"{p50:.1f}", f"{p99:.1f}", score, change


def _spread(numbers: NDArray[np.float64]) -> str:
    return f"{numbers.mean():.1f} ± {numbers.std():.1f}"
