"""``worldmodel bench``: run the benchmarks and print their tables."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldmodel import run_folder
from worldmodel.checks import require
from worldmodel.cli.arguments import Trust, parse
from worldmodel.cli.renderer import environment_of
from worldmodel.cli.requirements import require_run


def command(typed: list[str]) -> int:
    """Measure how fast this machine trains, plans and draws, next to baselines in the same run.

    Ratios are meaningful on any machine, milliseconds only on an idle one.

    Example:
        worldmodel bench plan --repetitions 100 --json
    """
    return parse("bench", command, _measure, typed)


def _measure(
    what: Annotated[
        tyro.conf.Positional[Literal["all", "render", "train", "plan", "deadline", "replay"]],
        tyro.conf.arg(help="one benchmark, or all"),
    ] = "all",
    *,
    repetitions: Annotated[int, tyro.conf.arg(metavar="N", help="of each measurement")] = 20,
    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help="of torch")] = None,
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="RUN", help="plan: also compare the returns of its plans"),
    ] = None,
    tasks: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="TASK", help="render: the tasks to draw")
    ] = ("cartpole_swingup", "walker_walk"),
    trust: Trust = False,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
) -> int:
    require(repetitions >= 1, f"repetitions: expected 1 or more, got {repetitions}")
    require(threads is None or threads >= 1, f"threads: expected 1 or more, got {threads}")
    if run is not None:
        require_run(run)

    import torch  # slow to import, and mistakes are answered before

    from worldmodel import bench
    from worldmodel.presets import load_preset

    default, planet = load_preset("default"), load_preset("planet")
    works: dict[str, Callable[[], list[bench.Table]]] = {
        "render": lambda: bench.bench_render(tasks, repetitions),
        "train": lambda: bench.bench_train(default, planet, repetitions),
        "plan": lambda: bench.bench_plan(default, planet, repetitions),
        "deadline": lambda: [bench.bench_deadline(default, repetitions)],
        "replay": lambda: bench.bench_replay(default, repetitions),
    }
    answer = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for name in works if what == "all" else [what]:
            tables = works[name]()
            if name == "plan" and run is not None:
                env = environment_of(run, run_folder.read_run(run), None, trust=trust)
                tables.append(bench.bench_quality(run_folder.load(run), env))
                env.close()
            answer[name] = [dataclasses.asdict(table) for table in tables]
            for table in [] if as_json else tables:
                print(bench.describe(table), flush=True)
    finally:
        torch.set_num_threads(before)
    if as_json:
        print(json.dumps({"machine": _machine(), "threads": threads or before, **answer}))
    return 0


def _machine() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
