"""``worldmodel watch``: serve a run's report and draw it again while it trains."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel import run_folder
from worldmodel.cli.arguments import RunFolder, Trust, parse
from worldmodel.cli.process_setup import one_thread
from worldmodel.local_page import PORT


def command(typed: list[str]) -> int:
    """Serve the report of a run on this computer, until Ctrl-C.

    It is drawn again whenever the run has a newer checkpoint; the page updates itself.

    Example:
        worldmodel watch runs/default-cartpole_swingup-0 --port 8421
    """
    return parse("watch", command, _follow_run, typed)


def _follow_run(
    run: RunFolder,
    *,
    port: Annotated[int, tyro.conf.arg(metavar="N", help="of 127.0.0.1; 0: a free one")] = PORT,
    trust: Trust = False,
) -> int:
    run_folder.require_run(run)

    from worldmodel.watch import Watch, in_another_process  # imports torch

    draw = in_another_process(partial(_draw, run, trust))
    with contextlib.suppress(KeyboardInterrupt), Watch(run, port, draw) as watch:
        if hasattr(os, "nice"):
            os.nice(10)  # a training on the same cores has priority
        print(f"{watch.address} shows {run}; Ctrl-C ends this", flush=True)
        watch.follow()
    return 0


def _draw(run: Path, trust: bool, folder: Path) -> None:
    from worldmodel.report import visualize_run  # loads plotting

    with one_thread():
        visualize_run(
            run_folder.load(run), run, folder, config=run_folder.read_run(run), trust=trust
        )
