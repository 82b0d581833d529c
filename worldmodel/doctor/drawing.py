"""Draw an image repeatedly, and measure how many a second.

The probes of OpenGL run this file alone, without this package: a process that imports torch takes
three seconds longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_SIZE, ENLARGED = 64, 4
TIMED_FRAMES, TIMED_S = 50, 0.5  # timing ends at the first of the two


def draw_with_opengl(task: str, picture: str) -> dict[str, Any]:
    """Draw with dm_control alone, which reads its backend from ``MUJOCO_GL`` at import."""
    import dm_control.suite  # it takes a second, and may crash

    env = dm_control.suite.load(*task.split("_"), task_kwargs={"random": 0})
    env.reset()
    return time_drawing(lambda: env.physics.render(IMAGE_SIZE, IMAGE_SIZE, camera_id=0), picture)


def time_drawing(render: Callable[[], NDArray[np.uint8]], picture: str) -> dict[str, Any]:
    """The images a second of a renderer; its first image goes to the file ``picture``, if any."""
    image = render()  # [H, W, 3] the first call compiles
    if image.min() == image.max():
        raise RuntimeError("the image is empty")
    seconds: list[float] = []
    while len(seconds) < TIMED_FRAMES and sum(seconds) < TIMED_S:
        begun = time.perf_counter()
        render()
        seconds.append(time.perf_counter() - begun)
    if picture:
        from PIL import Image  # only pictures need it

        larger = image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
        Image.fromarray(larger).save(f"{picture}.writing", format="png")
        os.replace(f"{picture}.writing", picture)
    return {"frames_per_s": 1 / sorted(seconds)[len(seconds) // 2], "picture": picture}
