"""``worldmodel visualize``: write the report of a run, as the end of a training does too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from worldmodel import run_folder
from worldmodel.cli.arguments import RunFolder, Trust, parse
from worldmodel.cli.process_setup import one_thread
from worldmodel.cli.requirements import require_writable, version_explained
from worldmodel.cli.screen import say


def command(typed: list[str]) -> int:
    """Show what a run's model sees, predicts and plans: a page, pictures, a video, numbers.

    The page is one file with everything in it. Of a run that is still training, it shows the last
    checkpoint.

    Example:
        worldmodel visualize runs/default-cartpole_swingup-0
    """
    return parse("visualize", command, _draw_run, typed)


def _draw_run(
    run: RunFolder,
    *,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="default: report inside the run")
    ] = None,
    trust: Trust = False,
) -> int:
    run_folder.require_run(run)
    out = out or run / "report"
    require_writable(out, "out")
    with version_explained(run):
        agent = run_folder.load(run)
    report(agent, run, out, trust=trust)
    return 0


def report(agent: Any, run: Path, out: Path, *, trust: bool) -> None:
    say(f"drawing the report of {run}: a minute or two")

    from worldmodel.report import visualize_run  # loads plotting

    with one_thread():
        summary = visualize_run(
            agent,
            run,
            out,
            config=run_folder.read_run(run),
            trust=trust,
            say=lambda name: say(f"  drawn: {name}"),
        )
    for line in (summary, *summary.notes, f"{len(summary.files)} files in {out}"):
        print(line)
    print(f"to be read: {out / 'report.html'}")
