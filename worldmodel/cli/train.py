"""``worldmodel train``: begin or resume the run of each seed."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path

import numpy as np
import torch

from worldmodel import loop, run_folder
from worldmodel.checks import ConfigError, require
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import score
from worldmodel.cli.settings import (
    choose_kinds,
    first_word,
    parse_train,
    read_seeds,
    settings_fields,
    starting_point,
)
from worldmodel.cli.visualize import report
from worldmodel.config import Config
from worldmodel.envs import module_of
from worldmodel.log import EVALUATIONS, read_evaluations


def command(typed: list[str]) -> int:
    """Train an agent: collect, learn, collect again. The same command again resumes.

    Ctrl-C writes a checkpoint. Every setting can be given as --section.key value.

    Example:
        worldmodel train cartpole_swingup --minutes 30 --planner.horizon 8
    """
    word = first_word(typed) or "default"
    preset, base = starting_point(word)
    parsed = parse_train(command, *choose_kinds(base, typed))
    if word == base.task != preset and parsed.task != word:
        raise ConfigError(f"task: two are given, {word} and --task {parsed.task}")
    if module_of(parsed.task):
        _require_typed(parsed.task, preset, typed)
    sections = {f.name: getattr(parsed, f.name) for f in settings_fields()}
    configs = [
        dataclasses.replace(base, task=parsed.task, seed=seed, **sections)
        for seed in read_seeds(parsed.seed)
    ]
    for name in ("steps", "minutes"):
        limit = getattr(parsed, name)
        require(
            limit is None or (limit > 0 and math.isfinite(limit)),
            f"{name}: expected more than 0, got {limit}",
        )
    if parsed.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: torch {torch.__version__} sees no cuda here; use --device cpu")
    runs = [_run_folder(parsed.run, preset, config, len(configs)) for config in configs]
    for run, config in zip(runs, configs, strict=True):
        run_folder.refuse_other_settings(run, config)
        require_writable(run, "run")
    if parsed.steps is None and parsed.minutes is None:
        print("training until interrupted (Ctrl-C); --steps or --minutes set an end", flush=True)
    for run, config in zip(runs, configs, strict=True):
        if _is_finished(run, parsed.steps, parsed.minutes):
            continue
        outcome = loop.train(
            config, run, steps=parsed.steps, minutes=parsed.minutes, device=parsed.device
        )
        if outcome.interrupted:
            print(
                f"interrupted at {outcome.env_steps:,} env steps; this command resumes the run:\n"
                f"  {shlex.join(['worldmodel', 'train', *typed])}"
            )
            return 130
        _finish(run)
    return 0


def _require_typed(task: str, preset: str, typed: list[str]) -> None:
    """Raise if a preset names a module that would be imported, unless the task was typed."""
    if not any(word == task or word.endswith(f"={task}") for word in typed):
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
    try:
        report(run_folder.load(run), run, run / "report", trust=True)  # the task was typed
    except (ValueError, OSError) as error:  # the run is complete without a report
        print(f"no report: {error}")
