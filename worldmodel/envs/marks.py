"""Marks: geoms that draw a model's sites and tendons, which a ray tracer does not see."""

from __future__ import annotations

import itertools
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN_GROUPS = 3  # OpenGL shows groups 0, 1 and 2
_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)  # mujoco's own: the material's colour counts instead


class Marks:
    """A copy of the model, for drawing only, with a geom for each visible site and spatial tendon.

    finger_turn's goal is a site, and ball_in_cup's string is a tendon. ``place`` writes the present
    positions of these geoms, which are the last of the copy. A string is drawn straight from one
    point to the next; OpenGL lets a slack one hang.
    """

    def __init__(self, physics: Any) -> None:
        import mujoco

        model = physics.model
        self._physics = physics
        self._sites = np.flatnonzero(model.site_group < SHOWN_GROUPS)
        self._tendons = [
            tendon
            for tendon in range(model.ntendon)
            if model.tendon_group[tendon] < SHOWN_GROUPS
            and model.wrap_type[model.tendon_adr[tendon]] != mujoco.mjtWrap.mjWRAP_JOINT
        ]
        # a string that winds around something can touch each of its points twice
        self._most = [2 * int(model.tendon_num[tendon]) - 1 for tendon in self._tendons]
        self._widths = [float(model.tendon_width[tendon]) for tendon in self._tendons]
        self._first = int(model.ngeom)
        # not for the dog: its bones are mesh files that the saved XML only names, and it has
        # neither sites nor tendons to draw
        self.count = 0 if model.nmesh else len(self._sites) + sum(self._most)
        self.model = self._extended() if self.count else model.ptr

    def _extended(self) -> Any:
        """Compile the copy. Call it right after loading: mujoco keeps the last parsed XML only."""
        import mujoco
        from dm_control.mujoco import wrapper

        with tempfile.NamedTemporaryFile(suffix=".xml") as description:
            wrapper.save_last_parsed_model_to_xml(description.name, self._physics.model)
            spec = mujoco.MjSpec.from_file(description.name)
        spec.stat.extent = self._physics.model.stat.extent
        last = spec.worldbody.add_body()
        kinds = [int(kind) for kind in self._physics.model.site_type[self._sites]]
        kinds += [int(mujoco.mjtGeom.mjGEOM_CAPSULE)] * sum(self._most)
        for kind in kinds:
            last.add_geom(type=kind, size=[1e-3] * 3, contype=0, conaffinity=0, mass=0)
        return spec.compile()

    def colours(self) -> NDArray[np.float32]:
        """[marks, 4]"""
        model = self._physics.model
        rgba = [_rgba(model.site_rgba[site], model.site_matid[site], model) for site in self._sites]
        for tendon, most in zip(self._tendons, self._most, strict=True):
            colour = _rgba(model.tendon_rgba[tendon], model.tendon_matid[tendon], model)
            rgba += [colour] * most
        return np.array(rgba, np.float32)

    def place(
        self,
        position: NDArray[np.float32],
        rotation: NDArray[np.float32],
        size: NDArray[np.float32],
        least_width: float,
    ) -> None:
        """Write the marks into [geoms, 3], [geoms, 3, 3] and [geoms, 3].

        A string becomes at least ``least_width`` metres wide.
        """
        data = self._physics.data
        at = self._first
        end = at + len(self._sites)
        position[at:end] = data.site_xpos[self._sites]
        rotation[at:end] = data.site_xmat[self._sites].reshape(-1, 3, 3)
        size[at:end] = self._physics.model.site_size[self._sites]
        for tendon, most, width in zip(self._tendons, self._most, self._widths, strict=True):
            start, points = int(data.ten_wrapadr[tendon]), int(data.ten_wrapnum[tendon])
            path = data.wrap_xpos.reshape(-1, 3)[start : start + points]
            size[end : end + most] = 1e-6
            for a, b in itertools.pairwise(path):
                length = float(np.linalg.norm(b - a))
                if length > 0:
                    position[end] = (a + b) / 2
                    rotation[end] = _frame((b - a) / length)
                    size[end] = max(width, least_width / 2), length / 2, 0
                end += 1
            end += most - (points - 1)


def _rgba(own: NDArray[np.float64], material: int, model: Any) -> NDArray[np.float64]:
    if material >= 0 and np.allclose(own, _DEFAULT_RGBA):
        own = model.mat_rgba[material]
    return np.array(own)


def _frame(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 3] a rotation whose last column is ``z``."""
    other = np.eye(3)[np.argmin(np.abs(z))]  # the axis that is least parallel to z
    x = np.cross(other, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
