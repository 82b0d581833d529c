"""``worldmodel runs``: list the runs in a folder, without loading what trains them."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from worldmodel import run_folder
from worldmodel.checks import ConfigError
from worldmodel.cli.arguments import parse
from worldmodel.columns import aligned
from worldmodel.log import EVALUATIONS, METRICS, last_metrics, read_evaluations

DEPTH = 3  # folders below the given one in which a run is looked for
LARGEST_CONFIG = 1_000_000  # bytes; a run's own config.yaml has some thousand
HEAD = ("folder", "task", "env steps", "score", "state", "size", "changed")


@dataclass(frozen=True)
class RunLine:
    """What the list says about one run."""

    folder: str
    task: str
    env_steps: int
    score: float | None  # mean of the last evaluation; None before the first
    episodes: int  # of that evaluation
    state: str  # finished, training now, stopped, or broken
    bytes: int
    changed: float  # seconds since 1970, of the newest line of numbers


def command(typed: list[str]) -> int:
    """List the runs in a folder: task, steps, score, state, size on disk.

    Example:
        worldmodel runs
        worldmodel runs runs/old --json
    """
    return parse("runs", command, _list_runs, typed)


def _list_runs(
    folder: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="the folder of runs")
    ] = Path("runs"),
    *,
    json: Annotated[bool, tyro.conf.arg(help="print a list of objects instead of a table")] = False,
) -> int:
    if not folder.is_dir():
        raise ConfigError(f"runs: no folder {folder}; the first `worldmodel train` makes runs/")
    lines = sorted((describe(run) for run in find(folder)), key=lambda line: -line.changed)
    if json:
        print(dumps([asdict(line) for line in lines]))
    elif lines:
        print(aligned([HEAD, *(_cells(line) for line in lines)]))
    else:
        print(f"no run in {folder}")
    return 0


def find(folder: Path) -> list[Path]:
    """The runs in a folder, and the folder itself if it is one."""
    found, waiting = [], [(folder, 0)]
    while waiting:
        current, depth = waiting.pop()
        if (current / "config.yaml").is_file():
            found.append(current)
        elif depth < DEPTH:
            with contextlib.suppress(OSError), os.scandir(current) as entries:
                waiting += [
                    (Path(each.path), depth + 1)
                    for each in entries
                    if each.is_dir(follow_symlinks=False)
                ]
    return found


def describe(run: Path) -> RunLine:
    """What the files of a run say; a file that is damaged makes the run broken."""
    problems: list[Exception] = []

    def read(what: Any, default: Any) -> Any:
        try:
            return what()
        except FileNotFoundError:
            return default
        except Exception as error:  # a damaged file may be anything
            problems.append(error)
            return default

    task = read(lambda: _task(run), "?")
    metrics = read(lambda: last_metrics(run / METRICS), {})
    evaluations = read(lambda: read_evaluations(run / EVALUATIONS), [])
    is_finished = read(lambda: _is_finished(run / "checkpoints"), False)
    last = evaluations[-1] if evaluations else None
    if run_folder.is_training(run):
        state = "training now"
    elif problems:
        state = "broken"
    else:
        state = "finished" if is_finished else "stopped"
    return RunLine(
        folder=str(run),
        task=task,
        env_steps=int(max(metrics.get("env_steps", 0), last.env_steps if last else 0)),
        score=statistics.fmean(last.returns) if last else None,
        episodes=len(last.returns) if last else 0,
        state=state,
        bytes=_size(run),
        changed=_changed(run),
    )


def _task(run: Path) -> str:
    path = run / "config.yaml"
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path}: larger than a config.yaml of a run")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast where it is built
    return str(yaml.load(path.read_text(), loader)["settings"]["task"])


def _is_finished(checkpoints: Path) -> bool:
    """Whether the newest whole checkpoint is of a final evaluation; raise if none is whole."""
    folders = sorted((p for p in checkpoints.iterdir() if p.name.isdecimal()), reverse=True)
    for folder in folders:
        try:
            sizes = loads((folder / "manifest.json").read_bytes())["files"]
            if any((folder / name).stat().st_size != sizes[name]["bytes"] for name in sizes):
                continue
            state = loads((folder / "state.json").read_bytes())
        except (OSError, KeyError, TypeError, ValueError):
            continue
        return bool(state["updates"] and state["evaluated_at"] == state["updates"])
    if folders:
        raise ValueError(f"{checkpoints}: no checkpoint is whole")
    return False


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # a run that trains replaces files
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _changed(run: Path) -> float:
    times = [0.0]
    for name in ("config.yaml", METRICS, EVALUATIONS):
        with contextlib.suppress(OSError):
            times.append((run / name).stat().st_mtime)
    return max(times)


def _cells(line: RunLine) -> tuple[str, ...]:
    known = line.score is not None and math.isfinite(line.score)
    return (
        line.folder,
        line.task,
        f"{line.env_steps:,}",
        f"{line.score:.1f} ({line.episodes} episodes)" if known else "-",
        line.state,
        _bytes_text(line.bytes),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(line.changed)),
    )


def _bytes_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
