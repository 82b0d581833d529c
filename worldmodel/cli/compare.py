"""``worldmodel compare``: the learning curves of several runs, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from worldmodel import run_folder
from worldmodel.checks import require
from worldmodel.cli.arguments import parse
from worldmodel.cli.requirements import require_writable, version_explained
from worldmodel.columns import aligned


def command(typed: list[str]) -> int:
    """Show the learning curves of several runs, their spread over seeds, and published scores.

    Runs with the same settings form one group. Instead of a run, name a score file with the columns
    task, seed, env_steps, wall_clock_s and return, or a folder of score files, which form a group.

    Example:
        worldmodel compare runs/default-cartpole_swingup-0 runs/default-cartpole_swingup-1
    """
    return parse("compare", command, _compare_runs, typed)


def _compare_runs(
    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN...", help="run folders, score files, or folders of those"),
    ],
    *,
    out: Annotated[
        Path, tyro.conf.arg(metavar="DIR", help="where compare.csv and compare.png go")
    ] = Path("comparison"),
    keep: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help="also keep each run there as a score file TASK-SEED.csv"),
    ] = None,
    note: Annotated[
        str, tyro.conf.arg(metavar="TEXT", help="a line for the head of those score files")
    ] = "",
) -> int:
    require(bool(runs), "compare: expected at least one RUN: a run's folder or a score file")
    require_writable(out, "out")
    for path in runs:
        require(path.exists(), f"compare: there is no {path}")

    from worldmodel import compare  # imports torch, and mistakes are answered before

    curves = []
    for path in runs:
        if (path / "config.yaml").is_file():
            with version_explained(path):
                config = run_folder.read_run(path)
                curves.append(compare.read_run(path, config))
                if keep is not None:
                    print(compare.keep(path, config, run_folder.read_about(path), keep, note))
        else:
            curves += compare.read_scores(path)
    groups = compare.group(curves)
    print(aligned(compare.table(groups)))
    written = compare.write(groups, out)
    print(*written, sep="\n")
    if len(written) == 1:
        print("no picture because matplotlib is missing: pip install matplotlib")
    return 0
