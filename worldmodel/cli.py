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

from worldmodel import doctor, loop
from worldmodel.config import Config, ConfigError, load_preset, nearest, presets, require
from worldmodel.envs import Environment, make_env, tasks
from worldmodel.log import EVALUATIONS, read_evaluations
from worldmodel.rollout import evaluate, play_constant, play_random
from worldmodel.structs import Episode

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
    if word in shipped or word.endswith((".yaml", ".yml")) or "/" in word:
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
        "random": [play_random(env, seed) for seed in seeds],
        "zero": [play_constant(env, still, seed) for seed in seeds],
    }
    return {
        name: np.array([episode.total_reward for episode in episodes])
        for name, episodes in played.items()
    }


def _write_video(path: Path, episode: Episode) -> None:
    import imageio.v2 as imageio  # only videos need it

    images = episode.image[..., -3:]  # [T, H, W, 3] the newest of stacked ones
    images = images.repeat(VIDEO_ENLARGED, axis=1).repeat(VIDEO_ENLARGED, axis=2)
    timing: dict[str, Any] = (
        {"duration": 1000 / VIDEO_IMAGES_PER_S, "loop": 0}
        if path.suffix == ".gif"
        else {"fps": VIDEO_IMAGES_PER_S}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".writing-{path.name}")
    imageio.mimwrite(beside, list(images), **timing)
    os.replace(beside, path)


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
    """Show what a run's model sees, predicts and plans: as pictures and a video.

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
    _report(loop.load(run), run, out)
    return 0


def _report(agent: Any, run: Path, out: Path) -> None:
    from worldmodel.visualize import visualize_run  # loads plotting

    with _one_thread():
        summary = visualize_run(agent, run, out)
    for line in (summary, *summary.notes, f"{len(summary.files)} files in {out}"):
        print(line)


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


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "eval": _eval,
    "visualize": _visualize,
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


@contextlib.contextmanager
def _surroundings(quiet: bool) -> Iterator[None]:
    """Our warnings reach the screen, the libraries' do not; SIGTERM is an interrupt.

    ``quiet`` is for the process of a command: whoever calls ``main`` keeps their own warnings.
    """
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
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
