"""Measure each renderer's frames a second; all draw the same states in turn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worldmodel.bench.measure import Cell, Effort, Table, interleave, percentiles
from worldmodel.checks import ConfigError
from worldmodel.envs import make_env
from worldmodel.envs.render import Renderer, choose, make_renderer
from worldmodel.envs.settings import EnvSettings

SAMPLES = (1, 2, 4)


def bench_render(
    tasks: tuple[str, ...], effort: Effort, image_size: int = EnvSettings.image_size
) -> Iterator[Table]:
    for task in tasks:
        yield _task(task, effort, image_size)


def _task(task: str, effort: Effort, image_size: int) -> Table:
    from worldmodel.envs.suite import load  # the simulator is heavy

    effort.say(f"images of {task}; warp may compile before the first")
    make_env(task).close()  # raises the error for an unknown task
    env = load(task, np.random.RandomState(0))
    env.reset()
    renderers, notes = _renderers(env.physics, image_size)
    for renderer in renderers.values():
        renderer.start()
    action = env.action_spec()
    random = np.random.default_rng(0)

    times: dict[str, list[float]] = {name: [] for name in renderers}
    for repetition in range(effort.repetitions + 1):
        env.step(random.uniform(action.minimum, action.maximum))
        works = {name: renderer.render for name, renderer in renderers.items()}
        drawn = interleave(works, Effort(1))
        for name, each in drawn.items():
            times[name] += list(each) if repetition else []
    gl_ms = float(np.median(times["gl"])) if "gl" in times else None
    rows: list[dict[str, Cell]] = []
    for name, taken in times.items():
        row: dict[str, Cell] = {"renderer": name, **percentiles(np.array(taken))}
        row["frames/s"] = 1e3 / float(np.median(taken))
        if gl_ms:
            row["times as fast as gl"] = gl_ms / float(np.median(taken))
        rows.append(row)
    for renderer in renderers.values():
        renderer.close()
    return Table(f"{task}, {image_size} x {image_size}", rows, notes)


def _renderers(physics: object, image_size: int) -> tuple[dict[str, Renderer], list[str]]:
    """The renderers that work on this machine, and a note with the reason for each other one."""
    working: dict[str, Renderer] = {}
    notes = ["gl draws as published: 4 samples a pixel, shadows, reflections"]
    for kind, samples in (("gl", (1,)), ("warp", SAMPLES)):
        try:
            choose(kind)  # type: ignore[arg-type]
        except ConfigError as error:
            notes.append(f"no {kind}: {error}")
            continue
        for count in samples:
            name = kind if kind == "gl" else f"warp, {count * count} samples a pixel"
            working[name] = make_renderer(kind, physics, 0, image_size, count)  # type: ignore[arg-type]
    return working, notes
