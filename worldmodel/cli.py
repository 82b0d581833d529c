"""The command ``worldmodel``: what a person types, and what is answered to a mistake.

Each command is one function. A mistake is one screen on stderr and exit code 2, before anything is
created; a run that cannot go on is one sentence and 1; an interrupted one is 130.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import math
import os
import platform
import shlex
import signal
import sys
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from worldmodel import compare, demo, doctor, loop
from worldmodel.config import Config, ConfigError, load_preset, nearest, presets, require
from worldmodel.envs import Environment, make_env, tasks
from worldmodel.film import enlarge, side_by_side, write_film
from worldmodel.log import EVALUATIONS, read_evaluations
from worldmodel.rollout import evaluate, play_constant, play_random
from worldmodel.structs import Episode
from worldmodel.watch import PORT, Watch

Renderer = Literal["auto", "warp", "gl"]

RunFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="its folder")]

VIDEO_ENLARGED = 4
VIDEO_IMAGES_PER_S = 20

OVERVIEW = """\
worldmodel: agents that learn a world model from pixels and plan in it

{commands}

Each one explains itself: worldmodel train --help
A first run, about ten minutes: worldmodel train cartpole_swingup --minutes 10
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code. Without ``arguments``, those of the process."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    loop.keep_memory()
    try:
        with _surroundings(quiet=arguments is None):
            return _dispatch(typed)
    except SystemExit as ended:  # tyro has said what is to be said
        return ended.code if isinstance(ended.code, int) else 2
    except ConfigError as error:
        _say(f"worldmodel: {error}")
        return 2
    except KeyboardInterrupt:
        _say("worldmodel: interrupted")
        return 130
    except BrokenPipeError:  # whoever read our lines has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RuntimeError, ValueError, OSError) as error:
        if sys.flags.dev_mode:  # python -X dev -m worldmodel ... shows where it came from
            raise
        _say(f"worldmodel: {error}")
        return 1


def _dispatch(typed: list[str]) -> int:
    match typed:
        case [] | ["-h" | "--help", *_]:
            print(_overview(), end="")
            return 0
        case ["--version", *_]:
            print(f"worldmodel {importlib.metadata.version('worldmodel')}")
            return 0
        case [name, *rest] if name in COMMANDS:
            return COMMANDS[name](rest)
        case [name, *_]:
            what = "option" if name.startswith("-") else "command"
            raise ConfigError(f"no {what} {name}{nearest(name, list(COMMANDS))}")
    raise AssertionError(typed)


def _overview() -> str:
    rows = [(name, _first_line(command)) for name, command in COMMANDS.items()]
    return OVERVIEW.format(commands=_aligned(rows, indent="  "))


@dataclass(frozen=True)
class _Options:
    """What ``train`` takes beside the settings."""

    preset: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="PRESET", help="a preset's name, a YAML file, or a task"),
    ] = "default"
    task: Annotated[str, tyro.conf.arg(metavar="TASK", help="one of `worldmodel tasks`")] = ""
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help="its folder; default: runs/PRESET-TASK-SEED"),
    ] = None
    steps: Annotated[
        int | None, tyro.conf.arg(metavar="N", help="end at so many simulator steps in total")
    ] = None
    minutes: Annotated[
        float | None, tyro.conf.arg(metavar="M", help="end after so many minutes in total")
    ] = None
    seed: Annotated[
        str, tyro.conf.arg(metavar="S[,S...]", help="several are trained one after another")
    ] = "0"
    device: Annotated[Literal["cpu", "cuda"], tyro.conf.arg(help="where the model learns")] = "cpu"


def _train(typed: list[str]) -> int:
    """Train an agent: collect, learn, collect again. The same command again resumes.

    Ctrl-C writes a checkpoint. Every setting can be given as --section.key value.

    Example:
        worldmodel train cartpole_swingup --minutes 30 --planner.horizon 8
    """
    word = _first_word(typed) or "default"
    preset, base = _starting_point(word)
    parsed = _parse_train(base, typed)
    if word == base.task != preset and parsed.task != word:
        raise ConfigError(f"task: two are given, {word} and --task {parsed.task}")
    sections = {f.name: getattr(parsed, f.name) for f in _settings_fields()}
    configs = [
        dataclasses.replace(base, task=parsed.task, seed=seed, **sections)
        for seed in _read_seeds(parsed.seed)
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
        loop.refuse_other_settings(run, config)
        _require_writable(run, "run")
    if parsed.steps is None and parsed.minutes is None:
        print("training until interrupted (Ctrl-C); --steps or --minutes set an end", flush=True)
    for run, config in zip(runs, configs, strict=True):
        if _already_there(run, parsed.steps, parsed.minutes):
            continue
        outcome = loop.train(
            config, run, steps=parsed.steps, minutes=parsed.minutes, device=parsed.device
        )
        if outcome.interrupted:
            print(
                f"interrupted at {outcome.env_steps:,} env steps; this goes on from there:\n"
                f"  {shlex.join(['worldmodel', 'train', *typed])}"
            )
            return 130
        _finish(run)
    return 0


def _finish(run: Path) -> None:
    """The report of a run that reached its end."""
    if not (run / "checkpoints").is_dir():
        print(f"the end came before the first checkpoint of {run}; give it more")
        return
    try:
        _report(loop.load(run), run, run / "report")
    except (ValueError, OSError) as error:  # the run is whole without it
        print(f"no report: {error}")


def _already_there(run: Path, steps: int | None, minutes: float | None) -> bool:
    """Says so where the evaluation that ends a run is at this end or past it."""
    path = run / EVALUATIONS
    if not path.exists():
        return False
    for evaluation in reversed(read_evaluations(path)):
        enough_steps = steps is not None and evaluation.env_steps >= steps
        enough_time = minutes is not None and evaluation.wall_clock_s >= 60 * minutes
        if len(evaluation.returns) >= loop.FINAL_EPISODES and (enough_steps or enough_time):
            print(
                f"{run} is already there: {evaluation.env_steps:,} env steps in"
                f" {evaluation.wall_clock_s / 60:.1f} minutes,"
                f" {_score(np.array(evaluation.returns))}; a larger --steps or --minutes goes on"
            )
            return True
    return False


def _first_word(typed: Sequence[str]) -> str | None:
    """The first that is no option and no option's value; each option takes one value."""
    waiting = False  # the option before has no value yet
    for token in typed:
        if token.startswith("--") or token == "-h":
            waiting = "=" not in token and token not in ("-h", "--help")
        elif waiting:
            waiting = False
        else:
            return token
    return None


def _starting_point(word: str) -> tuple[str, Config]:
    """The preset's name and its settings; a task's name means the default preset on that task."""
    shipped = presets()
    names_a_file = word.endswith((".yaml", ".yml")) or "/" in word
    if word in shipped or (names_a_file and not word.startswith("gym:")):
        return word, load_preset(word)
    if word == "toy" or word.startswith("gym:") or word in (known := _suite_tasks(word)):
        return "default", dataclasses.replace(load_preset("default"), task=word)
    raise ConfigError(f"no preset or task {word}{nearest(word, [*shipped, 'toy', *known])}")


def _suite_tasks(word: str) -> list[str]:
    """The simulator's tasks; none where it cannot know the word, for it is slow to load."""
    near_preset = "did you mean" in nearest(word, list(presets()))
    if importlib.util.find_spec("dm_control") is None or ("_" not in word and near_preset):
        return []
    from worldmodel.envs.suite import suite_tasks

    return list(suite_tasks())


def _settings_fields() -> list[dataclasses.Field[Any]]:
    """Of the configuration, without what ``_Options`` says in its own way."""
    return [f for f in dataclasses.fields(Config) if f.name not in ("task", "seed")]


def _parse_train(base: Config, typed: list[str]) -> Any:
    """``_Options`` and every section, with the preset's values where nothing is typed."""
    kinds = typing.get_type_hints(_Options, include_extras=True)
    defaults = dataclasses.asdict(_Options(task=base.task, seed=str(base.seed)))
    fields: list[tuple[str, Any, Any]] = [
        (name, kind, dataclasses.field(default=defaults[name])) for name, kind in kinds.items()
    ]
    kinds = typing.get_type_hints(Config)
    for f in _settings_fields():
        fields.append((f.name, kinds[f.name], dataclasses.field(default=getattr(base, f.name))))
    return tyro.cli(
        dataclasses.make_dataclass("Train", fields, frozen=True),
        prog="worldmodel train",
        description=inspect.getdoc(_train),
        args=typed,
        config=(tyro.conf.FlagConversionOff,),
        registry=_true_and_false(),
    )


def _true_and_false() -> tyro.constructors.ConstructorRegistry:
    """Spelled as in YAML."""
    spelled = {"true": True, "True": True, "false": False, "False": False}
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(
        asked: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[bool] | None:
        if asked.type is not bool:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="{true,false}",
            instance_from_str=lambda words: spelled[words[0]],
            is_instance=lambda value: isinstance(value, bool),
            str_from_instance=lambda value: [str(value).lower()],
            choices=tuple(spelled),
        )

    return registry


def _read_seeds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"seed: expected a number or several like 0,1,2; got {text}")
    return list(dict.fromkeys(int(word) for word in words))


def _run_folder(wished: Path | None, preset: str, config: Config, seeds: int) -> Path:
    if wished is None:
        return loop.default_run(preset, config)
    return wished if seeds == 1 else wished.with_name(f"{wished.name}-{config.seed}")


def _eval(typed: list[str]) -> int:
    """Play the learned planner of a run, without exploration noise.

    Example:
        worldmodel eval runs/default-cartpole_swingup-0 --episodes 3 --video swingup.mp4
    """
    return _parse(_eval, _play_run, typed)


def _play_run(
    run: RunFolder,
    *,
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 10,
    seed: Annotated[int, tyro.conf.arg(metavar="S", help="episode i starts from seed S + i")] = 0,
    video: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="the first episode, as .mp4 or .gif")
    ] = None,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
    baselines: Annotated[
        bool, tyro.conf.arg(help="random and zero actions beside, from the same starts")
    ] = False,
    renderer: Annotated[
        Renderer | None,
        tyro.conf.arg(help="draw with this one, also where the run was trained with another"),
    ] = None,
) -> int:
    require(episodes >= 1, f"episodes: expected 1 or more, got {episodes}")
    require(seed >= 0, f"seed: expected 0 or more, got {seed}")
    _require_run(run)
    if video is not None:
        _require_video(video)
    config = loop.read_run(run)
    agent = loop.load(run)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        env = _environment_of(run, config, renderer)
        try:
            with _one_thread():
                evaluated = evaluate(agent, env, episodes, seed, _show_episode)
            answer = {
                "mean": float(evaluated.returns.mean()),
                "std": float(evaluated.returns.std()),
                "returns": evaluated.returns.tolist(),
                "env_steps": evaluated.env_steps,
                "plan_ms_p50": float(np.percentile(evaluated.plan_milliseconds, 50)),
                "plan_ms_p99": float(np.percentile(evaluated.plan_milliseconds, 99)),
            }
            print(f"{_score(evaluated.returns)}, {evaluated.env_steps:,} env steps")
            print(f"a plan takes {answer['plan_ms_p50']:.1f} ms (p99 {answer['plan_ms_p99']:.1f})")
            if baselines:
                for name, returns in _play_baselines(env, evaluated.seeds).items():
                    print(f"{name}: {_score(returns)}")
                    answer[f"{name}_mean"] = float(returns.mean())
        finally:
            env.close()
        if video is not None:
            _write_video(video, evaluated.episodes[0])
            print(f"{video}: episode 0")
    if as_json:
        print(json.dumps(answer))
    return 0


def _environment_of(run: Path, config: Config, renderer: Renderer | None) -> Environment:
    """The run's own. Another renderer draws other images, so it is a person who asks for it."""
    recorded = loop.read_about(run)["environment"].get("renderer")
    wished = dataclasses.replace(config.env, renderer=renderer or config.env.renderer)
    env = make_env(config.task, wished, config.seed)
    found = env.describe().get("renderer")
    if renderer not in (None, "auto", found):
        env.close()
        raise ConfigError(f"renderer: {config.task} is drawn by {found} alone, got {renderer}")
    if found == recorded:
        return env
    if renderer is None:
        env.close()
        raise ConfigError(
            f"renderer: {run} was trained on images of {recorded}, here {found} would draw them;"
            f" choose one: --renderer {recorded} or --renderer {found}"
        )
    print(f"images are drawn by {found}; the run was trained on images of {recorded}")
    return env


def _play_baselines(env: Environment, seeds: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """What a return is worth: uniform random actions, and no action at all."""
    still = np.zeros_like(env.action_low)
    played = {
        "random": [play_random(env, seed).episode for seed in seeds],
        "zero": [play_constant(env, still, seed).episode for seed in seeds],
    }
    return {
        name: np.array([episode.total_reward for episode in episodes])
        for name, episodes in played.items()
    }


def _write_video(path: Path, episode: Episode) -> None:
    write_film(path, enlarge(side_by_side([episode.image]), VIDEO_ENLARGED), VIDEO_IMAGES_PER_S)


def _require_video(path: Path) -> None:
    """A suffix that can be written here, in a place that can be written."""
    require(
        path.suffix in (".mp4", ".gif"), f"video: expected a name like v.mp4 or v.gif, got {path}"
    )
    needed = "imageio" if path.suffix == ".gif" else "imageio_ffmpeg"
    if importlib.util.find_spec(needed) is None:
        raise ConfigError(f"video: {path.suffix} needs {needed}; type: pip install {needed}")
    require(not path.is_dir(), f"video: {path} is a folder")
    _require_writable(path.parent, "video")


def _visualize(typed: list[str]) -> int:
    """Show what a run's model sees, predicts and plans: report.html, pictures, a video, numbers.

    The page holds everything it shows: send it to anybody. A run that is still training is seen
    as its last checkpoint.

    Example:
        worldmodel visualize runs/default-cartpole_swingup-0
    """
    return _parse(_visualize, _draw_run, typed)


def _draw_run(
    run: RunFolder,
    *,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="default: report inside the run")
    ] = None,
) -> int:
    _require_run(run)
    out = out or run / "report"
    _require_writable(out, "out")
    with _made_by_another(run):
        agent = loop.load(run)
    _report(agent, run, out)
    return 0


@contextlib.contextmanager
def _made_by_another(run: Path) -> Iterator[None]:
    """Whoever cannot read a run is told which version made it."""
    try:
        yield
    except (ConfigError, RuntimeError) as error:
        made = loop.read_about(run).get("versions", {}).get("worldmodel", "an unknown version")
        here = importlib.metadata.version("worldmodel")
        if made == here and isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{error}; {run} was made by worldmodel {made}, this is {here}: read it with the"
            " version that made it, or train it again"
        ) from error


def _report(agent: Any, run: Path, out: Path) -> None:
    from worldmodel.visualize import visualize_run  # loads plotting

    with _one_thread():
        summary = visualize_run(agent, run, out)
    for line in (summary, *summary.notes, f"{len(summary.files)} files in {out}"):
        print(line)
    print(f"to be read: {out / 'report.html'}")


def _compare(typed: list[str]) -> int:
    """Show learning curves of several runs with their seeds' spread, beside published scores.

    Runs with the same settings are seeds of one thing. In a run's place a score file may stand
    (task, seed, env_steps, wall_clock_s, return), or a folder of them: those are one thing.

    Example:
        worldmodel compare runs/default-cartpole_swingup-0 runs/default-cartpole_swingup-1
    """
    return _parse(_compare, _compare_runs, typed)


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
    _require_writable(out, "out")
    curves = []
    for path in runs:
        if (path / "config.yaml").is_file():
            with _made_by_another(path):
                config = loop.read_run(path)
                curves.append(compare.read_run(path, config))
                if keep is not None:
                    print(compare.keep(path, config, loop.read_about(path), keep, note))
        else:
            require(path.exists(), f"compare: there is no {path}")
            curves += compare.read_scores(path)
    groups = compare.group(curves)
    print(_aligned(compare.table(groups)))
    written = compare.write(groups, out)
    print(*written, sep="\n")
    if len(written) == 1:
        print("no picture because matplotlib is missing: pip install matplotlib")
    return 0


def _export(typed: list[str]) -> int:
    """Write an agent as files that need no torch: ONNX graphs, and a runner for numpy.

    Both are played beside the original, so that you see what fewer bytes cost.

    Example:
        worldmodel export runs/default-cartpole_swingup-0 --to onnx --bits 8 --prune 0.5
    """
    return _parse(_export, _export_run, typed)


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
) -> int:
    from worldmodel import export  # runs libraries of its own

    require(0 <= prune < 1, f"prune: expected 0 or more and less than 1, got {prune}")
    require(episodes >= 0, f"episodes: expected 0 or more, got {episodes}")
    require(
        planner is None or planner in export.PLANNERS,
        f"planner: expected one of {', '.join(export.PLANNERS)}; got {planner}",
    )
    _require_run(run)
    export.require_libraries()
    out = out or run / "export"
    _require_writable(out, "out")
    export.require_free(out)
    agent = loop.load(run)
    if planner is not None:
        agent = export.with_planner(agent, planner)
    export.require_exportable(agent)
    lived = export.newest_episodes(run) if prune else []
    env = _environment_of(run, agent.config, renderer) if episodes else None
    made_from = {"run": run.name, "task": agent.config.task, **loop.read_about(run)["versions"]}
    try:
        with _one_thread():
            print("recording both verbs as graphs: a minute or two", flush=True)
            shown = export.export(agent, out, made_from, bits, prune, lived, env, episodes)
    finally:
        if env is not None:
            env.close()
    print(_aligned(shown.rows))
    print(
        f"float32 differs from torch by at most {shown.difference:.1e} over"
        f" {export.CHECKED_STEPS} steps with the same images and noise"
    )
    print(f"{out}: observe and plan, and runner.py, which needs numpy and onnxruntime only")
    return 0


def _tasks(typed: list[str]) -> int:
    """Every task known, with its action repeat and action size.

    Example:
        worldmodel tasks
    """
    return _parse(_tasks, _list_tasks, typed)


def _list_tasks() -> int:
    rows = [("task", "action repeat", "action size")]
    rows += [(task.name, str(task.action_repeat), str(task.action_size)) for task in tasks()]
    print(_aligned(rows))
    return 0


def _doctor(typed: list[str]) -> int:
    """What works on this machine, and the line to type where something does not.

    Exit code 0 where a task can be made, drawn and learned here, else 1.

    Example:
        worldmodel doctor --pictures drawn
    """
    return _parse(_doctor, _examine, typed)


def _examine(
    *,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
    pictures: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="keep what each renderer draws here")
    ] = None,
) -> int:
    if pictures is not None:
        _require_writable(pictures, "pictures")
    watched = sys.stderr.isatty() and not as_json
    facts = doctor.gather(pictures, _say if watched else lambda text: None)
    findings = doctor.judge(facts)
    works = doctor.works(findings)
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        answer = {"works": works, "findings": rows, "facts": dataclasses.asdict(facts)}
        print(json.dumps(answer, allow_nan=False))
    else:
        print(doctor.describe(findings))
    return 0 if works else 1


def _watch(typed: list[str]) -> int:
    """Serve the growing report of a run, on this computer alone, until Ctrl-C.

    It is drawn again whenever the run has a newer checkpoint; the page follows by itself.

    Example:
        worldmodel watch runs/default-cartpole_swingup-0 --port 8421
    """
    return _parse(_watch, _follow_run, typed)


def _follow_run(
    run: RunFolder,
    *,
    port: Annotated[int, tyro.conf.arg(metavar="N", help="of 127.0.0.1; 0: a free one")] = PORT,
) -> int:
    _require_run(run)

    def draw(folder: Path) -> Path:
        from worldmodel.visualize import visualize_run  # loads plotting

        with _one_thread():
            visualize_run(loop.load(run), run, folder)
        return folder / "report.html"

    with contextlib.suppress(KeyboardInterrupt), Watch(run, port, draw) as watch:
        if hasattr(os, "nice"):
            os.nice(10)  # a training beside it goes first
        print(f"{watch.address} shows {run}; Ctrl-C ends this", flush=True)
        watch.follow()
    return 0


def _demo(typed: list[str]) -> int:
    """A small trained agent from the package plays; no training, under a minute on two cores.

    It leaves a film and a report, and says what to look at. What it was trained by:
        worldmodel train ball_in_cup_catch --seed 0 --minutes 20

    Example:
        worldmodel demo --out demo
    """
    return _parse(_demo, _show_demo, typed)


def _show_demo(
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="for film and report")] = Path("demo"),
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 2,
    seed: Annotated[int, tyro.conf.arg(metavar="S", help="episode i starts from seed S + i")] = 0,
) -> int:
    require(episodes >= 1, f"episodes: expected 1 or more, got {episodes}")
    require(seed >= 0, f"seed: expected 0 or more, got {seed}")
    demo.require_free(out)
    _require_writable(out, "out")
    print(demo.introduce(), flush=True)
    with _one_thread():
        shown = demo.show(out, episodes, seed, _show_episode)
    for line in (shown, *shown.notes):
        print(line)
    return 0


def _bench(typed: list[str]) -> int:
    """What this machine reaches, each thing beside what it is compared to in the same run.

    Ratios mean something on any machine; milliseconds on an idle one only.

    Example:
        worldmodel bench plan --repetitions 100 --json
    """
    return _parse(_bench, _measure, typed)


def _measure(
    what: Annotated[
        tyro.conf.Positional[Literal["all", "render", "train", "plan", "deadline", "replay"]],
        tyro.conf.arg(help="one of them, or all"),
    ] = "all",
    *,
    repetitions: Annotated[int, tyro.conf.arg(metavar="N", help="of everything")] = 20,
    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help="of torch")] = None,
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="RUN", help="plan: also compare what its plans earn"),
    ] = None,
    tasks: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="TASK", help="render: which are drawn")
    ] = ("cartpole_swingup", "walker_walk"),
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
) -> int:
    from worldmodel import bench  # heavy, and nobody else's

    require(repetitions >= 1, f"repetitions: expected 1 or more, got {repetitions}")
    require(threads is None or threads >= 1, f"threads: expected 1 or more, got {threads}")
    if run is not None:
        _require_run(run)
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
                env = _environment_of(run, loop.read_run(run), None)
                tables.append(bench.bench_quality(loop.load(run), env))
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
    """The processor, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "eval": _eval,
    "visualize": _visualize,
    "compare": _compare,
    "export": _export,
    "watch": _watch,
    "demo": _demo,
    "bench": _bench,
    "tasks": _tasks,
    "doctor": _doctor,
}


def _parse(command: Callable[[list[str]], int], work: Callable[..., int], typed: list[str]) -> int:
    """``work`` with its arguments as they were typed, explained by the command's docstring."""
    return tyro.cli(
        work,
        prog=f"worldmodel {command.__name__.removeprefix('_')}",
        description=inspect.getdoc(command),
        args=typed,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Planning is many small sums. Two threads wait for each other where something else runs too:
    the default plan took 30 ms with one and up to 3 s with two, on two cores at a load of three.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_line(command: Callable[[list[str]], int]) -> str:
    return (inspect.getdoc(command) or "").splitlines()[0]


def _require_run(run: Path) -> None:
    if not (run / "config.yaml").is_file():
        beside = sorted(str(path.parent) for path in run.parent.glob("*/config.yaml"))
        raise ConfigError(
            f"run: {run} holds no config.yaml, so it is not a run"
            f"{nearest(str(run), beside) if beside else ''}"
        )


def _require_writable(folder: Path, name: str) -> None:
    """It is, or could be made: nothing is created to find out."""
    standing = folder.absolute()
    while not standing.exists():
        standing = standing.parent
    if not standing.is_dir():
        raise ConfigError(f"{name}: cannot write {folder}: {standing} is a file")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise ConfigError(f"{name}: cannot write {folder}: no permission in {standing}")


def _show_episode(number: int, episode: Episode) -> None:
    print(f"episode {number}: return {episode.total_reward:.1f}", flush=True)


def _score(returns: NDArray[np.float64]) -> str:
    return f"score {returns.mean():.1f} ± {returns.std():.1f} over {len(returns)} episodes"


def _aligned(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        indent
        + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Screen(logging.Handler):
    """Wherever stderr leads at that moment: a live screen puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(self.format(record))


@contextlib.contextmanager
def _surroundings(quiet: bool) -> Iterator[None]:
    """Our warnings reach the screen, the libraries' do not; SIGTERM is an interrupt.

    ``quiet`` is for the process of a command: whoever calls ``main`` keeps their own warnings.
    """
    screen = _Screen(logging.WARNING)
    logger = logging.getLogger("worldmodel")
    logger.addHandler(screen)
    try:
        before = signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:  # not the main thread: whoever runs it there handles signals
        before = None
    try:
        with warnings.catch_warnings():
            if quiet and not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(screen)
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
