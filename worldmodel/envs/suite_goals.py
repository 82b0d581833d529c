"""Goals of tasks of dm_control's suite: the state that a task wants, posed for a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pose = NDArray[np.float64]
"""[Q] the position of every joint."""


def at_zero(physics: Any) -> Pose:
    """All joints at 0: poles upright and the cart in the middle; the point mass on its target."""
    return np.zeros(physics.model.nq)


def reaching(physics: Any) -> Pose:
    """[shoulder, wrist]: the reacher's finger on the centre of the present target.

    The law of cosines for a triangle of both links and the way to the target. Of its two solutions
    it is the one with a wrist between 0 and half a turn.
    """
    model = physics.named.model
    x, y = model.geom_pos["target", :2]
    upper, lower = model.body_pos["hand", "x"], model.body_pos["finger", "x"]
    cosine = (x**2 + y**2 - upper**2 - lower**2) / (2 * upper * lower)
    wrist = np.arccos(np.clip(cosine, -1, 1))
    least = np.arctan2(lower * np.sin(wrist), upper + lower * np.cos(wrist))
    return np.array([np.arctan2(y, x) - least, wrist])


# By domain: tasks whose goal is to be at rest in one pose.
POSES: dict[str, Callable[[Any], Pose]] = {
    "cartpole": at_zero,
    "pendulum": at_zero,
    "point_mass": at_zero,
    "reacher": reaching,
}


@contextlib.contextmanager
def posed(physics: Any, pose: Pose) -> Iterator[None]:
    """The simulator at rest in this pose; after it, every number is as it was before."""
    import mujoco

    model, data = physics.model.ptr, physics.data.ptr
    before = mujoco.MjData(model)
    mujoco.mj_copyData(before, model, data)
    try:
        data.qpos[:] = pose
        data.qvel[:] = 0
        mujoco.mj_forward(model, data)
        yield
    finally:
        mujoco.mj_copyData(data, model, before)
