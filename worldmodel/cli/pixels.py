"""Pixels on the command line: ``worldmodel eval RUN --pixel 12,40 --to 30,30``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worldmodel.checks import ConfigError, require

if TYPE_CHECKING:  # these rooms import torch, and mistakes are answered without it
    from worldmodel.agent import Agent
    from worldmodel.envs import Environment
    from worldmodel.rollout import Evaluated
    from worldmodel.scores import Pixel


def pairs_of(
    pixel: Sequence[str], to: Sequence[str]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The marked pixels and their goals, as many of one as of the other."""
    pixels, goals = (
        [_pixel(name, word) for word in words] for name, words in (("pixel", pixel), ("to", to))
    )
    require(
        len(pixels) == len(goals),
        f"pixel: every pixel has a goal, got {len(pixels)} of --pixel and {len(goals)} of --to;"
        " type as many of both, such as --pixel 12,40 --to 30,30",
    )
    return pixels, goals


def _pixel(name: str, word: str) -> tuple[int, int]:
    found = re.fullmatch(r"(-?\d+),(-?\d+)", word)
    require(found is not None, f"{name}: expected row,column, such as 12,40; got {word}")
    assert found is not None
    return int(found[1]), int(found[2])


def require_pixels(agent: Agent, pixels: Sequence[Pixel], goals: Sequence[Pixel]) -> None:
    """Raise if the agent's model cannot mark these pixels, or if a goal is not in the picture."""
    from worldmodel.scores import refuse_outside

    height, width, _ = agent.image_shape
    try:
        agent.mark(agent.initial(), pixels)
        refuse_outside("to", goals, height, width)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    require(
        agent.planner is not None and agent.planner.kind != "ilqr",
        "pixel: pixels are planned for by candidates, and this run's agent compares none; train it"
        " with planner.kind: cem",
    )


def play_pixels(
    agent: Agent,
    env: Environment,
    seeds: Sequence[int],
    pixels: Sequence[Pixel],
    goals: Sequence[Pixel],
) -> tuple[Evaluated, dict[str, Any]]:
    """Play an episode from each seed, print how near the pixels came, and return the numbers."""
    import numpy as np

    from worldmodel.rollout import Evaluated, play_to_pixels

    played = []
    for number, seed in enumerate(seeds):
        played.append(play_to_pixels(agent, env, seed, pixels, goals))
        ends = played[-1].distances[[0, -1]].T  # [Q, 2]
        for pixel, goal, (first, last) in zip(pixels, goals, ends, strict=True):
            print(
                f"episode {number}: pixel {_written(pixel)} was {first:.1f} pixels from"
                f" {_written(goal)}; at the end the model expects {last:.1f}",
                flush=True,
            )
    last = np.array([episode.distances[-1] for episode in played])  # [episodes, Q]
    print(f"median distance at the end, as the model expects it: {np.median(last):.1f} pixels")
    first = [float(distance) for distance in played[0].distances[0]]
    evaluated = Evaluated(
        [episode.episode for episode in played],
        seeds,
        np.concatenate([episode.plan_milliseconds for episode in played]),
        agent.model.spec,
    )
    return evaluated, {"pixel_distances_at_first": first, "pixel_distances_at_last": last.tolist()}


def _written(pixel: Pixel) -> str:
    return f"{pixel[0]},{pixel[1]}"
