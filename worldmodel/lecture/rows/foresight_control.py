"""Visual foresight: plans over the moved probability bring the planar world's point to a pixel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import Environment, make_env
from worldmodel.envs.planar import SIDE, is_free
from worldmodel.lecture.row import Row, at_most
from worldmodel.lecture.rows import foresight
from worldmodel.rollout import play_constant, play_random, play_to_pixels
from worldmodel.scores import Pixel
from worldmodel.structs import Step

GOALS = 10
MOVES = 12  # of an episode; ten are enough for the longest way
WAY_CHECKS = 50  # points of the way to a goal that are looked at
CONFIG: Config = read(foresight.CONFIG, {"planner": {"candidates": 50}})


def measured(seed: int, broken: bool) -> Mapping[str, float]:
    training, _ = foresight.episodes_of(seed)
    agent = agent_of(CONFIG, foresight.learned(training, seed, broken))
    env: Any = Shortened(make_env(CONFIG.task, CONFIG.env))
    expected = []

    def plan(start: int) -> None:
        pixel, goal = pixels_of(env)
        played = play_to_pixels(agent, env, start, [pixel], [goal])
        expected.append(played.distances[-1, 0] / played.distances[0, 0])

    zero = np.zeros_like(env.action_low)
    starts = free_starts(env, 1000 * (seed + 1))
    return {
        "distance_left": distance_left(env, starts, plan),
        "random_distance_left": distance_left(env, starts, lambda start: play_random(env, start)),
        "zero_distance_left": distance_left(
            env, starts, lambda start: play_constant(env, zero, start)
        ),
        "expected_distance_left": float(np.median(expected)),
    }


class Shortened:
    """An environment whose episodes end after MOVES actions; all else is that of the other."""

    def __init__(self, env: Environment) -> None:
        self.env, self.moves = env, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, seed: int | None = None) -> Step:
        self.moves = 0
        return self.env.reset(seed)

    def step(self, action: NDArray[np.float32]) -> Step:
        self.moves += 1
        return replace(self.env.step(action), is_last=self.moves == MOVES)


def free_starts(env: Environment, first: int) -> Sequence[int]:
    """The next seeds with no obstacle between point and goal.

    Random moves touch an obstacle too rarely for the model to learn that it stops the point. A
    mark would go on, and nothing looks for the point in the image.
    """
    starts: list[int] = []
    for start in itertools.count(first):
        env.reset(start)
        state = env.state()
        way = np.linspace(state["position"], state["goal"], WAY_CHECKS)
        if all(is_free(point) for point in way):
            starts.append(start)
        if len(starts) == GOALS:
            break
    return starts


def distance_left(env: Environment, starts: Sequence[int], play: Callable[[int], object]) -> float:
    """The true distance from the goal after an episode, over that before it: the median."""
    shares = []
    for start in starts:
        env.reset(start)
        before = distance(env)
        play(start)
        shares.append(distance(env) / before)
    return float(np.median(shares))


def distance(env: Environment) -> float:
    """The true distance of the point from its goal, by the simulator's state."""
    state = env.state()
    return float(np.linalg.norm(state["position"] - state["goal"]))


def pixels_of(env: Environment) -> tuple[Pixel, Pixel]:
    """The pixels in which the point and its goal are."""
    state = env.state()
    return pixel_at(state["position"]), pixel_at(state["goal"])


def pixel_at(position: NDArray[np.float32]) -> Pixel:
    across, down = (position * CONFIG.env.image_size / SIDE).astype(int).tolist()
    return down, across


ROW = Row(
    name="foresight_control",
    idea="the marked pixel of a point comes to its goal pixel, and no reward was learned",
    broken="the model learned from windows that had the actions of others",
    passes={"distance_left": at_most(0.5)},
    reds=("distance_left",),
    short=False,
    settings=CONFIG,
    measure=measured,
)
