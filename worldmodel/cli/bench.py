"""``worldmodel bench``: run the benchmarks and print their tables."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from worldmodel import run_folder
from worldmodel.checks import require
from worldmodel.cli.arguments import Trust, parse
from worldmodel.cli.renderer import environment_of
from worldmodel.cli.screen import say

if TYPE_CHECKING:  # it imports torch, and mistakes are answered without it
    from worldmodel import bench

REPETITIONS = 20
# Of each benchmark with these repetitions, on two idle cores.
SECONDS = {"render": 30, "train": 110, "plan": 50, "deadline": 15, "replay": 15}
# Of one comparison: then it ends with fewer repetitions.
COMPARISON_S = {"render": 10.0, "train": 15.0, "plan": 10.0, "deadline": 10.0, "replay": 10.0}


def command(typed: list[str]) -> int:
    """Measure how fast this machine trains, plans and draws, next to baselines in the same run.

    Ratios are meaningful on any machine, milliseconds only on an idle one. Without --repetitions,
    on two idle cores: train takes less than two minutes, plan less than one, render half a minute,
    deadline and replay ten seconds each. Ctrl-C keeps what has been measured.

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
    repetitions: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help="of each measurement; default: 20, fewer where these last"),
    ] = None,
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
    require(
        repetitions is None or repetitions >= 1,
        f"repetitions: expected 1 or more, got {repetitions}",
    )
    require(threads is None or threads >= 1, f"threads: expected 1 or more, got {threads}")
    if run is not None:
        run_folder.require_run(run)

    names: list[str] = list(SECONDS) if what == "all" else [what]
    say(_announced(names, repetitions))

    import torch  # slow to import, and mistakes are answered before

    from worldmodel.bench import describe

    answer: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for name in names:
            for table in _tables(name, repetitions, run, tasks, trust=trust):
                answer[name].append(dataclasses.asdict(table))
                if not as_json:
                    print(describe(table), flush=True)
    except KeyboardInterrupt:
        say("interrupted; this is what has been measured")
        raise
    finally:
        torch.set_num_threads(before)
        if as_json:
            print(json.dumps({"machine": _machine(), "threads": threads or before, **answer}))
    return 0


def _announced(names: list[str], repetitions: int | None) -> str:
    """What is measured, and how long that takes."""
    listed = ", ".join(names)
    if repetitions is not None:
        return f"{repetitions:,} repetitions of each measurement of: {listed}"
    return (
        f"up to {sum(SECONDS[name] for name in names)} s on an idle machine, to measure: {listed}"
    )


def _tables(
    name: str,
    repetitions: int | None,
    run: Path | None,
    tasks: tuple[str, ...],
    *,
    trust: bool,
) -> Iterator[bench.Table]:
    """The tables of one benchmark, each when it is done."""
    from worldmodel import bench
    from worldmodel.presets import load_preset

    default, planet = load_preset("default"), load_preset("planet")
    if repetitions is None:
        effort = bench.Effort(REPETITIONS, COMPARISON_S[name], say)
    else:
        effort = bench.Effort(repetitions, say=say)
    match name:
        case "render":
            yield from bench.bench_render(tasks, effort)
        case "train":
            yield from bench.bench_train(default, planet, effort)
        case "plan" if run is not None:
            env = environment_of(run, run_folder.read_run(run), None, trust=trust)
            agent = run_folder.load(run)
            yield from bench.bench_plan(default, planet, effort)
            say("plans of the run, in the simulator")
            yield bench.bench_quality(agent, env)
            env.close()
        case "plan":
            yield from bench.bench_plan(default, planet, effort)
        case "deadline":
            yield from bench.bench_deadline(default, effort)
        case "replay":
            yield from bench.bench_replay(default, effort)


def _machine() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
