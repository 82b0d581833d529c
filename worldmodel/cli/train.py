"""``worldmodel train``: begin or resume the run of each seed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel import run_folder
from worldmodel.checks import ConfigError, require, require_device
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import score
from worldmodel.cli.settings import Asked, note_of_run, read_words
from worldmodel.cli.settings_help import asked_for_help
from worldmodel.cli.settings_table import settings_tree
from worldmodel.log import EVALUATIONS, read_evaluations

if TYPE_CHECKING:  # it imports torch, and mistakes are answered without it
    from worldmodel.config import Config


def command(typed: list[str]) -> int:
    """Train an agent: collect, learn, collect again. The same command again resumes.

    Ctrl-C writes a checkpoint. A run ends with a whole round, which can be a little after --steps.

    Example:
        worldmodel train cartpole_swingup --minutes 30
        worldmodel train walker_walk --steps 200000 --seed 0,1,2
        worldmodel train planet --task cartpole_balance --run runs/planet
        worldmodel train mine.yaml --planner.horizon 8
        worldmodel train runs/one/config.yaml --run runs/two
    """
    if text := asked_for_help(command, typed):
        print(text)
        return 0
    _runs_of(read_words(typed, settings_tree()))  # answers most mistakes, without torch

    from worldmodel.config import Config

    asked = read_words(typed, Config())
    options, configs = asked.options, asked.configs
    _require_typed(configs[0].task, asked.preset, typed)
    require_device(options.device, "--device cpu")
    runs = _runs_of(asked)
    if note := note_of_run(asked.preset, asked.base):
        print(note)
    if options.dry_run:
        return _say_needs(runs, asked)
    if options.anew:
        _put_away(runs)
    again = [word for word in typed if word != "--anew"]
    return _train_each(runs, asked, shlex.join(["worldmodel", "train", *again]))


def _say_needs(runs: list[Path], asked: Asked[Config]) -> int:
    """Print what a run needs; several seeds need as much each, one after another."""
    from worldmodel import loop

    options, config = asked.options, asked.configs[0]
    needs = loop.dry_run(
        config, runs[0], steps=options.steps, minutes=options.minutes, device=options.device
    )
    each = f", each of {len(runs)} runs" if len(runs) > 1 else ""
    print(f"{config.task}{each}, as measured here just now:\n{needs}\nnothing was written")
    return 0


def _put_away(runs: list[Path]) -> None:
    """Rename the runs that are there, or none of them if one is being trained."""
    there = [run for run in runs if (run / "config.yaml").exists()]
    for run in there:
        run_folder.claim(run).close()  # raises if it is being trained
    for run in there:
        print(f"the older run {run} is now {run_folder.put_away(run)}", flush=True)


def _train_each(runs: list[Path], asked: Asked[Config], again: str) -> int:
    """Train the runs one after another, and write their reports. ``again``: resumes them."""
    from worldmodel import loop

    options = asked.options
    if options.steps is None and options.minutes is None:
        print("training until interrupted (Ctrl-C); --steps or --minutes set an end", flush=True)
    for run, config in zip(runs, asked.configs, strict=True):
        if _is_finished(run, options.steps, options.minutes):
            continue
        outcome = loop.train(
            config, run, steps=options.steps, minutes=options.minutes, device=options.device
        )
        if outcome.interrupted:
            print(
                f"interrupted at {outcome.env_steps:,} env steps; this command resumes the run:\n"
                f"  {again}"
            )
            return 130
        _finish(run)
    return 0


def _runs_of(asked: Asked[Any]) -> list[Path]:
    """The folder of each run; raise if a limit or a folder is impossible."""
    for name in ("steps", "minutes"):
        limit = getattr(asked.options, name)
        require(
            limit is None or (limit > 0 and math.isfinite(limit)),
            f"{name}: expected more than 0, got {limit}",
        )
    typed = None if asked.options.run is None else Path(asked.options.run)
    runs = [
        _run_folder(typed, asked.preset, config, len(asked.configs)) for config in asked.configs
    ]
    replaces = asked.options.anew or asked.options.dry_run
    for run, config in zip(runs, asked.configs, strict=True):
        if not (replaces and (run / "config.yaml").exists()):
            run_folder.refuse_other_settings(run, config)
        require_writable(run, "run")
    return runs


def _require_typed(task: str, preset: str, typed: Sequence[str]) -> None:
    """Raise if a preset names a module that would be imported, unless the task was typed."""
    from worldmodel.envs import module_of

    if module_of(task) and not any(word == task or word.endswith(f"={task}") for word in typed):
        raise ConfigError(
            f"task: {preset} names {task}, which would import the module {module_of(task)}; if you"
            f" trust it, type it yourself: --task {task}"
        )


def _run_folder(typed: Path | None, preset: str, config: Config, seeds: int) -> Path:
    if typed is None:
        return run_folder.default_run(preset, config)
    return typed if seeds == 1 else typed.with_name(f"{typed.name}-{config.seed}")


def _is_finished(run: Path, steps: int | None, minutes: float | None) -> bool:
    """Whether a final evaluation is at one of these limits or past it; print it if so."""
    import numpy as np

    from worldmodel import loop

    path = run / EVALUATIONS
    if not path.exists():
        return False
    for evaluation in reversed(read_evaluations(path)):
        enough_steps = steps is not None and evaluation.env_steps >= steps
        enough_time = minutes is not None and evaluation.wall_clock_s >= 60 * minutes
        if len(evaluation.returns) >= loop.FINAL_EPISODES and (enough_steps or enough_time):
            print(
                f"{run} has finished: {evaluation.env_steps:,} env steps in"
                f" {evaluation.wall_clock_s / 60:.1f} minutes,"
                f" {score(np.array(evaluation.returns))}; a larger --steps or --minutes resumes it"
            )
            return True
    return False


def _finish(run: Path) -> None:
    """Write the report of a finished run."""
    if not (run / "checkpoints").is_dir():
        print(f"the end came before the first checkpoint of {run}; give it more")
        return
    from worldmodel.cli.visualize import report

    print("drawing the report", flush=True)
    try:
        report(run_folder.load(run), run, run / "report", trust=True)  # the task was typed
    except (ValueError, OSError) as error:  # the run is complete without a report
        print(f"no report: {error}")
