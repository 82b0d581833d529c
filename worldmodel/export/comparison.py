"""What an export costs and scores, beside the agent that it was made from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from worldmodel.agent import Agent
from worldmodel.envs import Environment
from worldmodel.export.check import difference
from worldmodel.export.folder import write
from worldmodel.export.graphs import record
from worldmodel.export.runner import Runner
from worldmodel.rollout import evaluate

CHECKED_STEPS = 5
HEADER = ("", "bytes", "plan ms p50", "p99", "return")


@dataclass(frozen=True)
class Shown:
    """What a person sees of it."""

    rows: Sequence[Sequence[str]]  # the header first
    difference: float  # of the float32 graphs from torch


def with_planner(agent: Agent, kind: str) -> Agent:
    """The same model, searched by another planner with the run's other settings."""
    planner = dataclasses.replace(agent.config.planner, kind=cast(Any, kind))
    return Agent(agent.model, dataclasses.replace(agent.config, planner=planner))


def export(
    agent: Agent,
    out: Path,
    made_from: Mapping[str, Any],
    bits: int,
    prune: float,
    env: Environment | None,
    episodes: int,
) -> Shown:
    """Write it to ``out``, and play each version from the same starts if there is an ``env``."""
    graphs = record(agent)
    with tempfile.TemporaryDirectory() as folder:
        plain = write(graphs, Path(folder) / "float32", made_from=made_from)
        runner = Runner(plain.path)
        largest = difference(agent, runner, CHECKED_STEPS)
        weights = sum(part.nbytes for part in agent.model.state_dict().values())
        rows = [
            HEADER,
            _row("torch, decoder included", weights, agent, env, episodes),
            _row("onnx", plain.graph_bytes, runner, env, episodes),
        ]
    written = write(graphs, out, made_from=made_from, bits=bits, prune=prune)
    if bits < 32 or prune > 0:
        name = f"onnx, {bits} bits, {prune:.0%} pruned"
        rows.append(_row(name, written.graph_bytes, Runner(out), env, episodes))
    return Shown(rows, largest)


def _row(
    name: str, size: int, actor: Agent | Runner, env: Environment | None, episodes: int
) -> tuple[str, ...]:
    if env is None:
        return name, f"{size:,}", "", "", ""
    evaluated = evaluate(cast(Agent, actor), env, episodes)  # a runner has the same verbs
    p50, p99 = np.percentile(evaluated.plan_milliseconds, (50, 99))
    returns = evaluated.returns
    score = f"{returns.mean():.1f} ± {returns.std():.1f} over {episodes} episodes"
    return name, f"{size:,}", f"{p50:.1f}", f"{p99:.1f}", score
