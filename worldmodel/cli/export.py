"""``worldmodel export``: write a run's agent as a folder that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldmodel import run_folder
from worldmodel.checks import require
from worldmodel.cli.arguments import RunFolder, Trust, parse
from worldmodel.cli.process_setup import one_thread
from worldmodel.cli.renderer import Renderer, environment_of
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import say
from worldmodel.columns import aligned


def command(typed: list[str]) -> int:
    """Write an agent as files that need no torch: ONNX graphs, and a runner for numpy.

    Plays the original and the export from the same starts, so that you see what fewer bytes cost.

    Example:
        worldmodel export runs/default-cartpole_swingup-0 --to onnx --bits 8 --prune 0.5
    """
    return parse("export", command, _export_run, typed)


def _export_run(
    run: RunFolder,
    *,
    to: Annotated[Literal["onnx"], tyro.conf.arg(help="what onnxruntime runs")] = "onnx",
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="default: export inside the run")
    ] = None,
    bits: Annotated[Literal[32, 8], tyro.conf.arg(help="of a weight")] = 32,
    prune: Annotated[
        float, tyro.conf.arg(metavar="SHARE", help="of the weights become zero; the others adapt")
    ] = 0.0,
    planner: Annotated[
        str | None, tyro.conf.arg(metavar="KIND", help="plan with another than the run's own")
    ] = None,
    episodes: Annotated[
        int, tyro.conf.arg(metavar="N", help="played with each, to compare; 0: none")
    ] = 5,
    renderer: Annotated[
        Renderer | None,
        tyro.conf.arg(help="draw with this one, also where the run was trained with another"),
    ] = None,
    trust: Trust = False,
) -> int:
    require(0 <= prune < 1, f"prune: expected 0 or more and less than 1, got {prune}")
    require(episodes >= 0, f"episodes: expected 0 or more, got {episodes}")
    run_folder.require_run(run)

    from worldmodel import export  # imports torch, and mistakes are answered before

    require(
        planner is None or planner in export.PLANNERS,
        f"planner: expected one of {', '.join(export.PLANNERS)}; got {planner}",
    )
    export.require_libraries()
    out = out or run / "export"
    require_writable(out, "out")
    export.require_free(out)
    agent, config = run_folder.load(run), run_folder.read_run(run)
    if planner is not None:
        agent = export.with_planner(agent, planner)
    export.require_exportable(agent)
    newest = export.newest_episodes(run) if prune else []
    env = environment_of(run, config, renderer, trust=trust) if episodes else None
    versions = run_folder.read_about(run)["versions"]
    made_from = {"run": run.name, "task": config.task, **versions}
    try:
        with one_thread():
            compared = export.export(agent, out, made_from, bits, prune, newest, env, episodes, say)
    finally:
        if env is not None:
            env.close()
    print(aligned(compared.lines))
    print(
        f"float32 differs from torch by at most {compared.difference:.1e} over"
        f" {export.CHECKED_STEPS} steps with the same images and noise"
    )
    print(f"{out}: observe and plan, and runner.py, which needs numpy and onnxruntime only")
    return 0
