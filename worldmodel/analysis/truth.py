"""True states of an episode's rows, from a simulator that plays the episode again.

The seed of its start and its actions determine an episode. The simulator plays it again, and the
states are used only if every image is the same as the stored one, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import Config
from worldmodel.envs import Environment, make_env_of_file
from worldmodel.structs import Episode

ANGLE = "angle of "  # prefix of a raw angle's name; probes read its sine and cosine
# Names for the numbers of dm_control's observations, in their order. Other numbers are counted.
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "cartpole": {
        "position": ("cart position", "cos of pole", "sin of pole"),
        "velocity": ("cart velocity", "angular velocity of pole"),
    },
    "pendulum": {
        "orientation": ("cos of pole", "sin of pole"),
        "velocity": ("angular velocity of pole",),
    },
    "acrobot": {
        "orientations": ("sin of upper", "sin of lower", "cos of upper", "cos of lower"),
        "velocity": ("angular velocity of upper", "angular velocity of lower"),
    },
    "reacher": {
        "position": ("angle of shoulder", "angle of wrist"),
        "to_target": ("target, ahead", "target, aside"),
        "velocity": ("angular velocity of shoulder", "angular velocity of wrist"),
    },
    "ball": {
        "position": ("cup x", "cup z", "ball x", "ball z"),
        "velocity": ("cup velocity x", "cup velocity z", "ball velocity x", "ball velocity z"),
    },
    "toy": {
        "position": ("position x", "position y"),
        "velocity": ("velocity x", "velocity y"),
        "goal": ("goal x", "goal y"),
    },
    "planar": {"position": ("position x", "position y"), "goal": ("goal x", "goal y")},
}

States = dict[str, NDArray[np.float64]]
"""Quantity -> [T]"""


class NoTruthError(RuntimeError):
    """There are no true states; the message says why in one sentence."""


def true_states(
    config: Config, episodes: Sequence[Episode], seeds: Sequence[int], *, trust: bool = False
) -> list[States]:
    """The true state of each row of each episode; ``NoTruthError`` if it cannot be computed.

    ``trust``: a module that the task names may be imported.
    """
    try:
        env = make_env_of_file(config.task, config.env, config.seed, trust=trust)
    except (ImportError, RuntimeError, ValueError) as error:
        raise NoTruthError(f"the task cannot be played here: {error}") from error
    try:
        return [
            replay(env, episode, seed, config.task)
            for episode, seed in zip(episodes, seeds, strict=True)
        ]
    finally:
        env.close()


def replay(env: Environment, episode: Episode, seed: int, task: str) -> States:
    """Play the same actions from the same start, and read the state at each image."""
    row = env.reset(seed)
    rows = [name_state(task, env.state())]
    same = np.array_equal(row.image, episode.image[0])
    for action, image in zip(episode.action[1:], episode.image[1:], strict=True):
        if not same or row.is_last:
            break
        row = env.step(action)
        rows.append(name_state(task, env.state()))
        same = np.array_equal(row.image, image)
    if not same or len(rows) < len(episode):
        raise NoTruthError(
            f"played again from seed {seed}, row {len(rows) - 1} is not as it is stored; was it"
            " drawn by another renderer or version, or has the run gone on meanwhile?"
        )
    if not rows[0]:
        raise NoTruthError(f"{task} offers no true state (its environment has no state())")
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def name_state(task: str, state: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    """Name -> number; an angle becomes its sine and cosine."""
    named: dict[str, float] = {}
    for key, values in state.items():
        flat = np.ravel(values).tolist()
        for name, value in zip(name_parts(task, key, len(flat)), flat, strict=True):
            if name.startswith(ANGLE):
                what = name.removeprefix(ANGLE)
                named |= {f"cos of {what}": np.cos(value), f"sin of {what}": np.sin(value)}
            else:
                named[name] = value
    return named


def name_parts(task: str, key: str, count: int) -> tuple[str, ...]:
    """The names of the numbers of one observation."""
    names = NAMES.get(task.split("_")[0], {}).get(key, ())
    if len(names) == count:
        return names
    return (key,) if count == 1 else tuple(f"{key} {number}" for number in range(count))


def angles(states: States) -> States:
    """Angles in radians, from each pair of sine and cosine."""
    return {
        f"angle of {name.removeprefix('cos of ')}": np.arctan2(
            states[name.replace("cos of ", "sin of ", 1)], cosine
        )
        for name, cosine in states.items()
        if name.startswith("cos of ") and name.replace("cos of ", "sin of ", 1) in states
    }
