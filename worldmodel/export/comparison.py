"""Exporting an agent, and comparing size, speed and returns with the original."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment
from worldmodel.export.check import difference
from worldmodel.export.folder import write
from worldmodel.export.graphs import record
from worldmodel.export.imagined import Belief
from worldmodel.export.inputs import Observation
from worldmodel.export.made import Plan as RunnersPlan
from worldmodel.export.pruning import pruned
from worldmodel.export.runner import Runner
from worldmodel.planners import of_kind
from worldmodel.planning import Planning
from worldmodel.rollout import Evaluated, evaluate
from worldmodel.structs import Episode, Spec

CHECKED_STEPS = 5
HEADER = ("", "bytes", "zeros")
PLAYED_HEADER = ("plan ms p50", "p99", "return", "change from onnx")


@dataclass(frozen=True)
class Comparison:
    """The table that compares an export with its original, and the error of its float32 graphs."""

    lines: Sequence[Sequence[str]]  # of the table; the header first
    difference: float  # the largest between the float32 graphs and torch


def with_planner(agent: Agent, kind: str) -> Agent:
    """An agent of the same model with another planner; its other settings stay."""
    planner = of_kind(kind, agent.planner)
    return agent.changed(planner=planner)


def export(
    agent: Agent,
    out: Path,
    made_from: Mapping[str, Any],
    bits: int,
    prune: float,
    newest: Sequence[Episode],
    env: Environment | None,
    episodes: int,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Write the agent to ``out``; with an ``env``, play each version from the same starts.

    ``newest``: episodes of the run, on which pruning judges the weights. ``say`` is called with a
    line when a stage begins, and after each episode.
    """
    play = partial(_play, env=env, episodes=episodes, say=say)
    say("recording the agent as graphs")
    graphs = record(agent)
    say("comparing the graphs with the agent, step by step")
    with tempfile.TemporaryDirectory() as folder:
        plain = write(graphs, Path(folder) / "float32", made_from=made_from)
        runner = Runner(plain.path)
        largest = difference(agent, runner, CHECKED_STEPS)
        weights = sum(part.nbytes for part in agent.model.state_dict().values())
        spec = agent.model.spec
        before = play("onnx", OneAtATime(runner, spec))
        played = play("torch", agent)
        lines = [
            HEADER if env is None else HEADER + PLAYED_HEADER,
            _line("torch, decoder included", weights, None, played, before),
            _line("onnx", plain.graph_bytes, plain.zeros, before, None),
        ]
    if prune > 0:
        say(f"pruning {prune:.0%} of the weights, and recording again")
        graphs = record(pruned(agent, prune, newest))
    written = write(graphs, out, made_from=made_from, bits=bits, prune=prune)
    if bits < 32 or prune > 0:
        name = f"onnx, {bits} bits, {prune:.0%} pruned"
        after = play(name, OneAtATime(Runner(out), spec))
        lines.append(_line(name, written.graph_bytes, written.zeros, after, before))
    return Comparison(lines, largest)


@dataclass(frozen=True)
class _Plans:
    """A runner's plans for a batch, with the fields that ``rollout`` reads."""

    each: Sequence[RunnersPlan]

    @property
    def first(self) -> NDArray[np.float32]:
        """[B, A]"""
        return np.stack([plan.first for plan in self.each])

    @property
    def milliseconds(self) -> float:
        return sum(plan.milliseconds for plan in self.each)


class OneAtATime:
    """A runner that ``rollout`` can play as an agent: the robots of a batch one after the other."""

    def __init__(self, runner: Runner, spec: Spec) -> None:
        self.runner = runner
        self.model = self  # ``rollout`` reads ``agent.model.spec``
        self.spec = spec
        self.planning = Planning()  # its goal, too: an exported agent has none

    def initial(self, batch: int) -> list[Belief]:
        return [self.runner.initial() for _ in range(batch)]

    def observe(
        self,
        beliefs: Sequence[Belief],
        actions: NDArray[np.float32],
        seen: Observation,
        seed: Sequence[int],
    ) -> list[Belief]:
        """Observe with each belief its part of ``actions`` [B, A] and of ``seen``."""
        robots = range(len(beliefs))
        each: list[Observation]
        if isinstance(seen, Mapping):
            each = [{name: part[robot] for name, part in seen.items()} for robot in robots]
        else:
            each = [seen[robot] for robot in robots]
        given = zip(beliefs, actions, each, seed, strict=True)
        return [self.runner.observe(*arguments) for arguments in given]

    def plan(
        self,
        beliefs: Sequence[Belief],
        previous: _Plans | None,
        seed: Sequence[int],
        score: None = None,
    ) -> _Plans:
        last = [None] * len(beliefs) if previous is None else previous.each
        given = zip(beliefs, last, seed, strict=True)
        return _Plans([self.runner.plan(*arguments) for arguments in given])


def _play(
    name: str,
    actor: Agent | OneAtATime,
    *,
    env: Environment | None,
    episodes: int,
    say: Callable[[str], None],
) -> Evaluated | None:
    if env is None:
        return None

    def watch(number: int, episode: Episode) -> None:
        say(f"{name}: episode {number + 1}/{episodes}, return {episode.total_reward:.1f}")

    return evaluate(cast(Agent, actor), env, episodes, watch=watch)


def _line(
    name: str, size: int, zeros: float | None, played: Evaluated | None, before: Evaluated | None
) -> tuple[str, ...]:
    """A line of the table. ``before``: the evaluation to subtract, episode by episode."""
    share = "" if zeros is None else f"{zeros:.1%}"
    if played is None:
        return name, f"{size:,}", share
    p50, p99 = np.percentile(played.plan_milliseconds, (50, 99))
    score = f"{_spread(played.returns)} over {len(played.returns)} episodes"
    change = "" if before is None else _spread(played.returns - before.returns)
    return name, f"{size:,}", share, f"{p50:.1f}", f"{p99:.1f}", score, change


def _spread(numbers: NDArray[np.float64]) -> str:
    return f"{numbers.mean():.1f} ± {numbers.std():.1f}"
