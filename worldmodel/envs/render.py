"""The interface of a renderer, and the choice of one that works on this machine."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.checks import ConfigError

INSTALL_WARP = 'pip install "mujoco-warp>=3.17,<4" "warp-lang>=1.15"'


class Renderer(Protocol):
    """Draws images of one physics."""

    name: str

    def start(self) -> None:
        """Call this when an episode begins: colours, sizes and terrain may have changed."""
        ...

    def render(self) -> NDArray[np.uint8]:
        """[H, W, 3]"""
        ...

    def close(self) -> None: ...


def choose(kind: Literal["auto", "warp", "gl"], has_skin: bool = False) -> Literal["warp", "gl"]:
    """The renderer to use; if none works, ``ConfigError`` with the line to type.

    Only OpenGL draws a skin, which is nearly all that is visible of the suite's dog.
    """
    missing = "it draws no skin, which this task needs" if has_skin else _warp_missing()
    if kind != "gl" and not missing:
        return "warp"
    if kind == "warp":
        remedy = "use env.renderer gl" if has_skin else f"type: {INSTALL_WARP}"
        raise ConfigError(f"env.renderer: warp: {missing}; {remedy}")
    from worldmodel.envs import gl

    try:
        gl.backend()  # tries OpenGL, which takes a second
    except ConfigError as error:
        if kind == "gl" or has_skin:
            raise
        raise ConfigError(
            f"{error}; or warp, which needs no OpenGL ({missing}): {INSTALL_WARP}"
        ) from error
    return "gl"


def _warp_missing() -> str:
    """What is missing for mujoco-warp; empty if it can be imported."""
    for module, package in (("warp", "warp-lang"), ("mujoco_warp", "mujoco-warp")):
        if importlib.util.find_spec(module) is None:
            return f"{package} is not installed"
    return ""


def make_renderer(
    kind: Literal["warp", "gl"], physics: Any, camera: int, image_size: int, samples: int
) -> Renderer:
    if kind == "warp":
        from worldmodel.envs.warp import Warp

        return Warp(physics, camera, image_size, samples)
    from worldmodel.envs.gl import Gl

    return Gl(physics, camera, image_size)
