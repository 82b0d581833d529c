"""Measure the time to sample a batch, compared with the time to copy its bytes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from worldmodel.bench.measure import Cell, Effort, Table, interleave, percentiles
from worldmodel.bench.train import make_replay
from worldmodel.config import Config

SIZES = ((12, 24), (16, 64), (50, 50), (64, 50))  # windows, rows


def bench_replay(
    default: Config, effort: Effort, sizes: tuple[tuple[int, int], ...] = SIZES
) -> Iterator[Table]:
    rows: list[dict[str, Cell]] = []
    for batch, length in sizes:
        effort.say(f"a batch of {batch} x {length}, sampled and copied:")
        replay_config = dataclasses.replace(default.replay, batch=batch, length=length)
        config = dataclasses.replace(default, replay=replay_config)
        with tempfile.TemporaryDirectory() as folder:
            replay = make_replay(config, Path(folder))
            random = np.random.default_rng(0)
            image = replay.sample(random).image.numpy().copy()
            target = np.empty_like(image)
            works: dict[str, Callable[[], object]] = {
                "sample": partial(replay.sample, random),
                "copy": partial(np.copyto, target, image),
            }
            times = interleave(works, effort)
        median, copied = (float(np.median(times[name])) for name in ("sample", "copy"))
        row: dict[str, Cell] = {"batch": f"{batch} x {length}", "MB": image.nbytes / 1e6}
        row |= percentiles(times["sample"])
        row |= {"copy ms": copied, "times the copy": median / copied}
        row["images/s"] = batch * length / median * 1e3
        rows.append(row)
    yield Table("a batch sampled from the replay, and a copy of its images", rows)
