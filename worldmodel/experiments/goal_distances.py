"""Compare distances to a goal image: how near to the goal does planning with each come?

    python -m worldmodel.experiments.goal_distances [--weights FILE] [--only NAME ...] [--goals N]

A goal is the state in which the simulator comes to rest under a constant action; the agent sees
only its image. The error is the mean distance between the true position and the goal's over the
last rows. The default weights are the demo's; the task needs a state with a position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel import model_file
from worldmodel.agent import Agent
from worldmodel.bench.measure import Cell, Table, describe
from worldmodel.checks import ConfigError, nearest
from worldmodel.demo import WEIGHTS
from worldmodel.envs import Environment, make_env_of_file
from worldmodel.files import write_rows
from worldmodel.models.latents import Point
from worldmodel.planners import of_kind
from worldmodel.progress import Progress
from worldmodel.scores import LatentScore
from worldmodel.structs import leaves

ROWS = 60  # in an attempt
SETTLING = 100  # rows until the simulator rests under a constant action
LAST = 20  # rows that the error is averaged over, so that the agent must stay at the goal
REACH = 0.7  # largest share of the bounds for a goal's constant action, so that it can be held

Distance = Callable[[Agent, NDArray[np.uint8]], LatentScore]


def by_latent(agent: Agent, picture: NDArray[np.uint8]) -> LatentScore:
    """The distance of ``agent.goal``: all features of the latent have the same weight."""
    return agent.goal(picture)


def by_remembered(agent: Agent, picture: NDArray[np.uint8]) -> LatentScore:
    """The squared distance of the deterministic part."""
    target = leaves(agent.at_rest(picture))["deter"]
    size = len(target)
    return lambda latents, actions: -(latents[..., :size] - target).square().mean(-1)


def by_drawn(agent: Agent, picture: NDArray[np.uint8]) -> LatentScore:
    """The squared distance of the stochastic part."""
    target = leaves(agent.at_rest(picture))["stoch.sample"]
    size = len(target)
    return lambda latents, actions: -(latents[..., -size:] - target).square().mean(-1)


def by_angle(agent: Agent, picture: NDArray[np.uint8]) -> LatentScore:
    """The cosine similarity of the latents."""
    target = agent.at_rest(picture).features

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        cosine: Tensor = torch.cosine_similarity(latents, target, dim=-1)
        return cosine

    return score


def by_picture(agent: Agent, picture: NDArray[np.uint8]) -> LatentScore:
    """The squared error of the decoded image."""
    model = agent.model
    target = model.pixels(torch.from_numpy(picture))

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        decoded = model.draw(Point(latents.flatten(0, -2)))
        errors: Tensor = (decoded - target).square().mean((-3, -2, -1))
        return -errors.reshape(latents.shape[:-1])

    return score


DISTANCES: Mapping[str, Distance] = {
    "latent": by_latent,
    "remembered part": by_remembered,
    "drawn part": by_drawn,
    "angle": by_angle,
    "picture": by_picture,
}
NOTHING = "no action"  # the baseline: no action at all


@dataclass(frozen=True)
class Goal:
    """The state at which a constant action ends, and its image."""

    number: int
    picture: NDArray[np.uint8]
    position: NDArray[np.float32]


@dataclass(frozen=True)
class Attempt:
    """The error of one distance at one goal, which is a line of the file."""

    distance: str
    goal: int
    error: float  # mean distance from the goal's position over the last rows


def goals(env: Environment, count: int) -> Iterator[Goal]:
    """``count`` goals, the same at every call."""
    low, high = env.action_low, env.action_high
    for number in range(count):
        share = np.random.default_rng(number).uniform(-REACH, REACH, low.shape)
        action = ((low + high) / 2 + share * (high - low) / 2).astype(np.float32)
        row, rows = env.reset(number), 0
        while rows < SETTLING and not row.is_last:
            row, rows = env.step(action), rows + 1
        yield Goal(number, row.image, position(env))


def position(env: Environment) -> NDArray[np.float32]:
    state = env.state()
    if "position" not in state:
        raise ConfigError(f"task: its state has no position; it has {', '.join(state) or 'none'}")
    return state["position"]


def attempt(agent: Agent, env: Environment, name: str, goal: Goal) -> Attempt:
    """Plan to a goal with one distance; the goal's number is the seed of the start."""
    score = None if name == NOTHING else DISTANCES[name](agent, goal.picture)
    row, belief, plan = env.reset(goal.number), agent.initial(), None
    errors = []
    for seed in range(ROWS):
        assert row.action is not None
        belief = agent.observe(belief, row.action, row.observation)
        action = agent.no_action()
        if score is not None:
            plan = agent.plan(belief, plan, seed, score=score)
            action = plan.first
        row = env.step(action)
        errors.append(float(np.linalg.norm(position(env) - goal.position)))
    return Attempt(name, goal.number, float(np.mean(errors[-LAST:])))


def write(file: Path, attempts: Sequence[Attempt], header: Sequence[str]) -> None:
    lines = [[each.distance, each.goal, f"{each.error:.4f}"] for each in attempts]
    write_rows(file, ["distance", "goal", "error"], lines, header)


def summarise(attempts: Sequence[Attempt]) -> Table:
    lines: list[dict[str, Cell]] = []
    for name in dict.fromkeys(each.distance for each in attempts):
        errors = [each.error for each in attempts if each.distance == name]
        lines.append({
            "distance": name,
            "goals": len(errors),
            "error": float(np.mean(errors)),
            "spread": float(np.std(errors)),
            "worst": max(errors),
        })  # fmt: skip
    return Table("how far the true position is from the goal's", lines)


def main(weights: Path, only: Sequence[str], count: int, file: Path) -> None:
    torch.set_num_threads(1)  # the tensors are small
    packed = model_file.read(weights)
    agent, about = packed.agent, packed.about
    names = [NOTHING, *DISTANCES]
    for name in only:
        if name not in names:
            raise ConfigError(f"only: {name}: no such distance{nearest(name, names)}")
    # icem ranks candidates, so the unit of a distance does not matter. The policy's proposals are
    # left out, because the policy learned another task.
    agent = agent.changed(
        planner=of_kind("icem", agent.planner), planning=replace(agent.planning, proposals=0)
    )
    config = packed.config
    renderer = about["environment"]["renderer"]
    env = make_env_of_file(config.task, replace(config.env, renderer=renderer), 0)
    header = [
        f"python -m worldmodel.experiments.goal_distances: {config.task},"
        f" {weights.name} with sha256 {about['sha256'][:12]}; {ROWS} rows an attempt",
        "goal: the picture after a constant action; planned for by icem without proposals",
        f"error: from the goal's true position, mean of the last {LAST} rows",
    ]
    attempts: list[Attempt] = []
    with Progress(f"{len(names)} distances, {count} goals", None, None) as progress:
        for goal in goals(env, count):
            for name in only or names:
                attempts.append(attempt(agent, env, name, goal))
                progress.event(f"goal {goal.number}, {name}: {attempts[-1].error:.3f}")
        env.close()
        for line in describe(summarise(attempts)).splitlines():
            progress.event(line)
        progress.done(str(file))
    write(file, attempts, header)


if __name__ == "__main__":
    import tyro

    def command(
        *,
        weights: Path = WEIGHTS,
        only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = (),
        goals: int = 8,
        file: Path = Path("assets/bench/goal_distances.csv"),
    ) -> None:
        """Plan to goal pictures with several distances, and keep the errors.

        Args:
            weights: of an agent, in the form of the demo's.
            only: the distances to try; all by default.
            goals: number of pictures.
            file: that keeps the attempts.
        """
        main(weights, only, goals, file)

    tyro.cli(command, prog="python -m worldmodel.experiments.goal_distances")
