"""Compare warp's images and times, by setting, with OpenGL's; writes assets/bench/render_study.csv.

    python -m worldmodel.bench.renderers [FILE]

Needs both OpenGL and warp. All renderers draw the same states, reached by random actions, in turn.
A time is the processor time of all threads, for the cheapest state: other work on the machine
hardly changes it. Compare times within one file only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.gl import Gl
from worldmodel.envs.render import Renderer
from worldmodel.envs.suite import load
from worldmodel.envs.warp import DEFAULT_LOOK, Look, Warp
from worldmodel.files import write_rows

TASKS = (
    "cartpole_swingup",
    "ball_in_cup_catch",
    "walker_walk",
    "finger_spin",
    "cheetah_run",
    "reacher_easy",
)
STATES = 20
STEPS_BETWEEN = 10  # simulator steps from one state to the next
IMAGE_SIZE = 64

PLAIN = Look(sky_pixels=0, floor_texels=1, least_pixels=0, glints=True, hidden_shadows=True)
SETTINGS: dict[str, tuple[int, Look]] = {
    "samples=1 (default)": (1, DEFAULT_LOOK),
    "samples=2": (2, DEFAULT_LOOK),
    "samples=3": (3, DEFAULT_LOOK),
    "samples=4": (4, DEFAULT_LOOK),
    "samples=1; no shadows": (1, replace(DEFAULT_LOOK, shadows=False)),
    "samples=1; shadows that hide too": (1, replace(DEFAULT_LOOK, hidden_shadows=True)),
    "samples=1; no sky": (1, replace(DEFAULT_LOOK, sky=False)),
    "samples=1; sky not averaged": (1, replace(DEFAULT_LOOK, sky_pixels=0)),
    "samples=1; floor not averaged": (1, replace(DEFAULT_LOOK, floor_texels=1)),
    "samples=1; rods not widened": (1, replace(DEFAULT_LOOK, least_pixels=0)),
    "samples=1; glints on the floor": (1, replace(DEFAULT_LOOK, glints=True)),
    "samples=1; nothing prepared": (1, PLAIN),
    "samples=2; nothing prepared": (2, PLAIN),
    "samples=3; nothing prepared": (3, PLAIN),
    "samples=4; nothing prepared": (4, PLAIN),
}

Make = Callable[[Any], Renderer]  # physics -> renderer


class Drawing:
    """One renderer, its images of the states, and the milliseconds of the cheapest image."""

    def __init__(self, task: str, make: Make) -> None:
        env = load(task, np.random.RandomState(0))
        self._physics = env.physics
        self._renderer = make(env.physics)
        env.reset()
        self._renderer.start()
        self._renderer.render()  # the first image compiles
        self._images: list[NDArray[np.uint8]] = []
        self.ms = np.inf

    def draw(self, state: NDArray[np.float64]) -> None:
        with self._physics.reset_context():
            self._physics.set_state(state)
        self._renderer.render()  # fills the caches, which the last renderer emptied
        begin = time.process_time()
        self._images.append(self._renderer.render())
        self.ms = min(self.ms, (time.process_time() - begin) * 1e3)

    @property
    def images(self) -> NDArray[np.uint8]:
        """[B, H, W, 3]"""
        return np.stack(self._images)

    def close(self) -> None:
        self._renderer.close()


def study(task: str) -> list[dict[str, str]]:
    """Measure one task; return a row of the file for OpenGL and for each setting of warp.

    All draw each state in turn, so that a change of the machine's speed affects all of them.
    """
    published = Drawing(task, lambda physics: Gl(physics, 0, IMAGE_SIZE))
    rays = {name: Drawing(task, _by_warp(*setting)) for name, setting in SETTINGS.items()}
    for state in _visit(task):
        for drawing in (published, *rays.values()):
            drawing.draw(state)
    rows = [_row(task, "gl", "as published", np.inf, published.ms, published.ms)]
    for name, drawing in rays.items():
        decibels = psnr(drawing.images, published.images)
        rows.append(_row(task, "warp", name, decibels, drawing.ms, published.ms))
    for drawing in (published, *rays.values()):
        drawing.close()
    return rows


def _by_warp(samples: int, look: Look) -> Make:
    return lambda physics: Warp(physics, 0, IMAGE_SIZE, samples, look)


def psnr(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in decibels of [B, H, W, 3] to [B, H, W, 3], averaged over B."""
    error = np.square(images.astype(np.float64) - reference).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


def _visit(task: str) -> list[NDArray[np.float64]]:
    env = load(task, np.random.RandomState(0))
    random = np.random.default_rng(0)
    spec = env.action_spec()
    env.reset()
    states = []
    for _ in range(STATES):
        for _ in range(STEPS_BETWEEN):
            env.step(random.uniform(spec.minimum, spec.maximum))
        states.append(env.physics.get_state().copy())
    return states


def _row(
    task: str, renderer: str, settings: str, decibels: float, ms: float, reference_ms: float
) -> dict[str, str]:
    return {
        "task": task,
        "renderer": renderer,
        "settings": settings,
        "psnr_db": f"{decibels:.2f}",
        "ms_per_frame": f"{ms:.2f}",
        "times_as_fast_as_gl": f"{reference_ms / ms:.1f}",
    }


def main(file: Path) -> None:
    rows = [row for task in TASKS for row in study(task)]
    write_rows(file, list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "assets/bench/render_study.csv"))
