"""The renderer of published results: dm_control's OpenGL, with a backend that works here."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.checks import ConfigError

INSTALL_GL = "apt-get install -y libegl1 libgl1-mesa-dri"
BACKENDS = ("egl", "osmesa", "glfw")  # Mesa 25.1 dropped OSMesa, so EGL comes first
OFF = ("off", "disable", "disabled", "false", "0")

_PROBE = "from dm_control import mujoco; mujoco.Physics.from_xml_string('<mujoco/>').render(8, 8)"


@functools.cache
def backend() -> str:
    """``MUJOCO_GL`` if it is set, else the first backend that draws.

    Each is tried in a process of its own, because a broken driver ends the process that calls it.
    """
    requested = os.environ.get("MUJOCO_GL", "").lower()
    if requested in OFF:
        raise ConfigError(
            f"env.renderer: gl: MUJOCO_GL={requested} switches OpenGL off; type: unset MUJOCO_GL"
        )
    failures = []
    for name in (requested,) if requested else BACKENDS:
        failure = _probe(name)
        if not failure:
            return name
        failures.append(f"{name}: {failure}")
    raise ConfigError(
        f"env.renderer: gl: no OpenGL works here ({'; '.join(failures)}); type: {INSTALL_GL}"
    )


def _probe(name: str) -> str:
    """Try a backend; return its last line of error output, empty if it draws."""
    variables = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    variables["MUJOCO_GL"] = name
    try:
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PROBE],
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "no answer in 60 s"
    if answer.returncode == 0:
        return ""
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else f"ended with {answer.returncode}"


class Gl:
    """Draws with dm_control's own renderer."""

    name = "gl"

    def __init__(self, physics: Any, camera: int, image_size: int) -> None:
        _point_dm_control_at(backend())
        self._physics = physics
        self._view = {"height": image_size, "width": image_size, "camera_id": camera}

    def start(self) -> None:
        """Do nothing: dm_control reads the model again for every image."""

    def render(self) -> NDArray[np.uint8]:
        """[H, W, 3]"""
        image: NDArray[np.uint8] = self._physics.render(**self._view)
        return image

    def close(self) -> None:
        self._physics.free()


def _point_dm_control_at(name: str) -> None:
    """Set dm_control's backend, which it chose at its first import: perhaps none at all."""
    os.environ["MUJOCO_GL"] = name  # for child processes that import mujoco
    from dm_control import _render

    if name == _render.BACKEND:
        return
    if name == "egl":
        from dm_control._render.pyopengl import egl_renderer

        context = egl_renderer.EGLContext
    elif name == "osmesa":
        from dm_control._render.pyopengl import osmesa_renderer

        context = osmesa_renderer.OSMesaContext
    else:
        from dm_control._render import glfw_renderer

        context = glfw_renderer.GLFWContext
    _render.Renderer, _render.BACKEND = context, name
