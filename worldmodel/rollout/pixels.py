"""Playing for marked pixels: every plan brings them nearer to their goal pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.envs import Environment
from worldmodel.rollout.play import plan_seeds
from worldmodel.scores import DesignatedPixels, Pixel
from worldmodel.structs import Episode, Plan


@dataclass(frozen=True)
class PixelsPlayed:
    """An episode that was planned for marked pixels."""

    episode: Episode
    # [T, Q] from the goals, as the agent expects them: the first row's are exact
    distances: NDArray[np.float32]
    plan_milliseconds: NDArray[np.float64]  # [T - 1]


def play_to_pixels(
    agent: Agent, env: Environment, seed: int, pixels: Sequence[Pixel], goals: Sequence[Pixel]
) -> PixelsPlayed:
    """Play one episode that begins with marks on ``pixels``, and plan each of them to its goal.

    Marks are carried by what the model predicts of each action, and never looked for in an image.
    """
    score, seeds = DesignatedPixels(goals), plan_seeds(seed)
    rows = [env.reset(seed)]
    belief = agent.observe(agent.initial(), agent.no_action(), rows[0].observation)
    belief = agent.mark(belief, pixels)
    distances = [score.distances(belief)]
    plan: Plan | None = None
    milliseconds = []
    while not rows[-1].is_last:
        draw = next(seeds)
        plan = agent.plan(belief, previous=plan, seed=draw, score=score)
        milliseconds.append(plan.milliseconds)
        row = env.step(plan.first)
        assert row.action is not None  # an adopted environment says what was done
        belief = agent.observe(belief, row.action, row.observation, seed=draw)
        rows.append(row)
        distances.append(score.distances(belief))
    expected = np.stack([distance.float().cpu().numpy() for distance in distances])
    return PixelsPlayed(Episode.stack(rows), expected, np.array(milliseconds))
