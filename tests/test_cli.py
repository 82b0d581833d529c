"""Commands: their output, and the files that they leave."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import inspect
import io
import json
import logging
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import TINY, modules_after, report_quickly
from tests.test_config import CHANGES, LEAVES, value_at
from worldmodel import checkpoint, cli, envs, loop, machine, run_folder
from worldmodel.analysis import NoTruthError, true_states
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main, settings_help, settings_table, tasks, visualize
from worldmodel.cli.settings import read_words, settings_in
from worldmodel.config import Config
from worldmodel.log import read_evaluations
from worldmodel.loop import online
from worldmodel.planners import ICEM
from worldmodel.presets import load_preset

STEPS = 320  # two seed episodes of the toy
FINAL_EPISODES = 2  # one more than in an evaluation before the end
# long rows: a test plays many episodes
SETTINGS = {**TINY, "env": {"image_size": 16, "action_repeat": 8}}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Use one thread: two wait for each other in products this small on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _few_final_episodes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for room in (loop, online):
            patch.setattr(room, "FINAL_EPISODES", FINAL_EPISODES)
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and runs that stay inside this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(online, "cores", lambda: 1)
    return tmp_path


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("presets") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return str(path)


@pytest.fixture(scope="module")
def run(preset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reached its end; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "cores", lambda: 1)
        report_quickly(patch)
        assert main(["train", preset, "--steps", str(STEPS), "--run", str(folder)]) == 0
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Output:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def run_command(capsys: pytest.CaptureFixture[str], *words: Any) -> Output:
    capsys.readouterr()
    code = main([str(word) for word in words])
    return Output(code, *capsys.readouterr())


def assert_mistake(
    capsys: pytest.CaptureFixture[str], here: Path, words: list[Any], answers: list[str]
) -> None:
    """Check a mistake: one screen on stderr, exit code 2, nothing created."""
    before = written(here)
    output = run_command(capsys, *words)
    assert output.code == 2
    assert output.out == ""
    assert written(here) == before
    assert sorted(here.rglob("*")) == sorted({Path(name) for name in before} | folders(here))
    assert "Traceback" not in output.err
    assert len(output.err.splitlines()) <= 24, output.err
    flat = " ".join(output.err.replace("│", " ").split())
    for answer in answers:
        assert answer in flat


def folders(here: Path) -> set[Path]:
    """The folders that exist after a command: a mistake leaves none, not even an empty one."""
    return {path for path in here.rglob("*") if path.is_dir() and any(path.iterdir())}


# ---------------------------------------------------------------------------- a first look


def test_alone_it_shows_the_commands_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys)
    assert output.code == 0
    assert output.err == ""
    for command in cli.COMMANDS:
        assert f"  {command} " in output.out
    assert "worldmodel train cartpole_swingup --minutes 25" in output.out
    assert run_command(capsys, "--help").out == output.out


def test_it_knows_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys, "--version")
    assert output.code == 0
    assert output.out.startswith("worldmodel 0.")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run_command(capsys, command, "--help")
    assert output.code == 0
    assert "Example:" in output.out
    assert f"worldmodel {command}" in output.out.split("Example:")[1]


def test_the_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run it in this process, as ``python -m worldmodel`` does."""
    monkeypatch.setattr(sys, "argv", ["worldmodel", "trian"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("worldmodel", run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "worldmodel: no command trian; did you mean train?\n"


@pytest.mark.mujoco
def test_the_table_of_tasks_lists_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    from worldmodel.envs import suite

    every = suite.suite_tasks()
    assert tasks.known_tasks() == ["toy", "planar", "pendulum", *every]
    some = ("cartpole_swingup", "humanoid_CMU_run", "reacher_easy", "walker_walk")
    listed = {task: every[task] for task in some}  # loading all of them takes 4 s
    monkeypatch.setattr(suite, "suite_tasks", lambda: listed)
    assert set(tasks.table().splitlines()) <= set(tasks.TABLE.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.mujoco
def test_the_table_of_tasks_is_what_the_suite_has() -> None:
    assert tasks.table() == tasks.TABLE.read_text()


def test_tasks_are_listed_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys, "tasks")
    assert output.code == 0
    first, *rows = output.out.splitlines()
    assert [part.strip() for part in first.split("  ") if part] == [
        *("task", "action repeat", "action size")
    ]
    cells = {row.split()[0]: [int(cell) for cell in row.split()[1:]] for row in rows}
    assert cells["cartpole_swingup"] == [8, 1]
    assert cells["walker_walk"] == [2, 6]
    assert cells["toy"] == [2, 2]
    assert cells["planar"] == [1, 2]
    assert cells["pendulum"] == [1, 1]
    column = first.index("action size")
    assert all(row[column - 1] == " " != row[column] for row in rows)


# ---------------------------------------------------------------------------- settings


ACTING = ("planner", "planning", "exploration", "loop", "behaviour")  # they exclude each other


def typed_together(changes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge changes of different parts, to read fewer command lines."""

    def parts(change: dict[str, Any]) -> set[str]:
        words = [path.split(".") for path in change]
        names = {".".join(w[: 2 if w[0] in ("model", "objective") else 1]) for w in words}
        return {"acting" if name in ACTING else name for name in names}

    merged: list[dict[str, Any]] = []
    for change in changes:
        apart = [other for other in merged if parts(other).isdisjoint(parts(change))]
        if apart:
            apart[0].update(change)
        else:
            merged.append(dict(change))
    return merged


# Settings that others exclude: env.camera, objective.acting, planning.goal.
EXCLUDING = (
    *("env.cameras", "model.posterior.acting_filter"),
    *("planning.pessimism", "exploration.curiosity"),
)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("letter", ["-", "_"])
def test_every_setting_can_be_typed(letter: str, joined: bool) -> None:
    together: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, leaf in LEAVES.items():
        if name not in ("seed", "task"):  # a kind is typed alone: others follow from it
            is_part = leaf.path.endswith(".kind") or dataclasses.is_dataclass(leaf.value)
            group = name if is_part or leaf.path in EXCLUDING else ""
            kinds = [item for item in CHANGES[name].items() if item[0].endswith(".kind")]
            together.setdefault((*sorted(kinds), group), {}).update(CHANGES[name])
    assert len(together) > 5
    for change in typed_together(together.values()):
        typed = []
        for path, value in change.items():
            name = path.replace("_", letter)
            said = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            typed += [f"--{name}={said}"] if joined else [f"--{name}", said]
        for defaults in (settings_table.settings_tree(), Config()):
            (config,) = read_words(typed, defaults).configs
            for path, value in change.items():
                part: Any = config
                for name in path.split("."):
                    part = getattr(part, name)
                assert part == value, path


def test_what_is_not_typed_comes_from_the_preset(
    here: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = started(monkeypatch)
    assert main(["train", preset, "--planner.horizon", "3", "--steps", "5"]) == 0
    assert main(["train", "--learner.model-rate", "1e-3", "toy", "--minutes", "0.5"]) == 0
    (first, run, steps, _), (second, other, _, minutes) = asked
    assert dataclasses.asdict(first) == {**dataclasses.asdict(first), "task": "toy", "seed": 0}
    assert value_at(first, "planner.horizon") == 3
    assert value_at(first, "planner.candidates") == load_preset(preset).planner.candidates
    assert (str(run), steps) == ("runs/tiny-toy-0", 5)
    assert value_at(second, "learner.model_rate") == 0.001
    assert second.task == "toy"
    assert minutes == 0.5
    assert str(other).endswith("-toy-0")


def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path, Any, Any]]:
    """The runs that would have been trained."""
    asked = []

    def note(config: Config, run: Path, *, steps: Any, minutes: Any, device: str) -> loop.Outcome:
        asked.append((config, run, steps, minutes))
        return loop.Outcome(run, 0, 0, 0.0, [], interrupted=False)

    monkeypatch.setattr(loop, "train", note)
    return asked


def test_several_seeds_are_several_runs(
    here: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = started(monkeypatch)
    assert main(["train", preset, "--seed", "0,2", "--steps", "5"]) == 0
    assert main(["train", preset, "--seed", "0,2", "--run", "a/b", "--steps", "5"]) == 0
    assert main(["train", preset, "--seed", "7", "--run", "a/b", "--steps", "5"]) == 0
    assert [(config.seed, str(run)) for config, run, _, _ in asked] == [
        (0, "runs/tiny-toy-0"),
        (2, "runs/tiny-toy-2"),
        (0, "a/b-0"),
        (2, "a/b-2"),
        (7, "a/b"),
    ]


def test_the_kind_of_a_part_decides_which_options_there_are(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = started(monkeypatch)
    words = ["--planner.decay", "0.5", "--planner.kind=icem", "--planner.candidates", "99"]
    assert main(["train", "toy", *words, "--steps", "5"]) == 0
    assert asked[0][0].planner == ICEM(decay=0.5, candidates=99)
    assert main(["train", "--planner.kind", "icem", "--help-settings", "planner"]) == 0
    output = capsys.readouterr().out
    assert "--planner.kind icem  (one of cem, icem, mppi, shooting, gradient, ilqr" in output
    assert "--planner.decay 0.8  (icem; a number, 0.01 to 1)" in output
    assert "--planner.temperature 0.5  (mppi; a number, more than 0)" in output
    assert "--env.camera" not in output


def test_without_a_limit_the_first_line_says_so(
    here: Path, preset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started(monkeypatch)
    output = run_command(capsys, "train", preset)
    assert "until interrupted" in output.out.splitlines()[0]
    assert "--steps" in output.out.splitlines()[0]


@pytest.mark.mujoco
def test_a_task_in_the_place_of_a_preset(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = started(monkeypatch)
    assert main(["train", "walker_walk", "--steps", "5"]) == 0
    assert asked[0][0] == Config(task="walker_walk")
    assert str(asked[0][1]) == "runs/default-walker_walk-0"


# What is answered before torch is imported, with its exit code
ANSWERS: list[tuple[list[str], int]] = [
    ([], 0),
    (["--help"], 0),
    (["--version"], 0),
    (["trian"], 2),
    (["tasks"], 0),
    *(([name, "--help"], 0) for name in cli.COMMANDS),
    (["train", "--help-settings"], 0),
    (["train", "walker_wlk"], 2),
    (["train", "--planer.horizon", "8"], 2),
    (["train", "--planner.horizon", "eight"], 2),
    (["train", "--planner.horizon", "0"], 2),
    (["train", "nope.yaml"], 2),
    (["eval", "runs/nope"], 2),
    (["visualize", "runs/nope"], 2),
    (["watch", "runs/nope"], 2),
    (["export", "runs/nope"], 2),
    (["compare", "runs/nope"], 2),
    (["eval", "runs/nope", "--episode", "3"], 2),
]


def test_answers_come_before_torch(run: Path) -> None:
    """One process: importing torch takes seconds, and a mistake is answered at once."""
    begin = "from worldmodel.cli import main\n"
    of_the_run = ["train", str(run / "config.yaml"), "--run", str(run)]
    answers = [
        *ANSWERS,
        ([*of_the_run, "--planner.horizon", "5"], 2),
        ([*of_the_run, "--seed", "3"], 2),
        (["train", "toy", "--run", str(run)], 2),
    ]
    steps = {
        " ".join(["worldmodel", *words]): f"{begin}assert main({words!r}) == {code}"
        for words, code in answers
    }
    for words, loaded in modules_after(steps).modules.items():
        assert "worldmodel.cli" in loaded
        assert not loaded & {"torch", "numpy", "mujoco", "dm_control", "matplotlib"}, words


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_first_line_of_a_command_is_that_of_its_help(name: str) -> None:
    file, line = cli.COMMANDS[name]
    command = importlib.import_module(f"worldmodel.cli.{file}").command
    assert inspect.getdoc(command).splitlines()[0] == line


def test_the_table_of_settings_is_what_the_parts_declare() -> None:
    """If this fails, write the table again: python -m worldmodel.cli.settings_table"""
    assert settings_table.TABLE.read_text() == settings_table.table()
    tree = settings_table.settings_tree()
    assert dataclasses.asdict(tree) == dataclasses.asdict(Config())
    assert {setting.path for setting in settings_in(tree)} == {
        setting.path for setting in settings_in(Config())
    }


def test_the_page_of_settings_is_the_table() -> None:
    """If this fails, write the page again: python -m worldmodel.cli.settings_help"""
    assert settings_help.PAGE.read_text() == settings_help.page()


def test_every_setting_of_every_kind_has_a_sentence_of_its_own() -> None:
    """Two share one only if they mean the same: one name, in two kinds or heads of a section."""
    meanings: dict[str, set[tuple[str, str]]] = {}
    for setting in settings_in(settings_table.settings_tree()):
        sentence = settings_table.sentence_of(setting.part, setting.name)
        assert re.fullmatch(r"[^ ].{25,}\.", sentence), f"{setting.path}: {sentence!r}"
        meaning = (setting.path.split(".")[0], setting.name)
        meanings.setdefault(sentence, set()).add(meaning)
    assert len(meanings) > 80
    for sentence, said_of in meanings.items():
        assert len(said_of) == 1, f"{said_of}: {sentence}"


def test_no_cell_of_the_page_of_settings_is_empty() -> None:
    rows = [line for line in settings_help.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    for row in rows:
        cells = [cell.strip(" `") for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row


def test_the_short_help_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys, "train", "--help").out
    assert len(output.splitlines()) <= 40
    for word in ("PRESET", "--task", "--run", "--steps", "--minutes", "--seed", "--device"):
        assert f"    {word} " in output
    assert "rounds are whole" in output
    assert "worldmodel train --help-settings" in output


def test_the_settings_that_are_listed_are_those_of_the_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--help-settings", "planner.candidates", "--planner.elites", "7"]
    output = run_command(capsys, "train", "planet", *words).out
    assert "--planner.candidates 1000  (cem;" in output
    assert "--planner.candidates 64  (icem, mppi, shooting, gradient;" in output
    assert "elites" not in output


def test_the_config_of_a_run_is_a_preset(
    here: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = started(monkeypatch)
    words = ["--run", "copy", "--planner.horizon", "3", "--steps", "5"]
    output = run_command(capsys, "train", run / "config.yaml", *words)
    config, folder, _, _ = asked[0]
    assert (config, str(folder)) == (
        read(load_preset(str(run / "config.yaml")), {"planner": {"horizon": 3}}),
        "copy",
    )
    assert run_folder.read_run(run) == load_preset(str(run / "config.yaml"))
    assert "settings of a run on toy, seed 0, made with worldmodel" in output.out
    assert "images were drawn by toy" in output.out
    assert main(["train", str(run / "config.yaml"), "--seed", "4", "--task", "walker_walk"]) == 0
    assert (asked[1][0].seed, asked[1][0].task) == (4, "walker_walk")
    written = (run / "config.yaml").read_text()
    (here / "older.yaml").write_text(re.sub(r"\n *swell: [\d.]+", "", written))
    output = run_command(capsys, "train", "older.yaml", *words)
    assert "newer settings have today's defaults: exploration.swell: 1.0" in output.out


def test_the_folder_of_a_run_is_answered_with_its_file(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = f"{run} is the folder of a run; the file with its settings is {run / 'config.yaml'}"
    assert_mistake(capsys, here, ["train", run], [answer])


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["trian"], ["no command trian; did you mean train?"]),
        (["--verson"], ["no option --verson"]),
        (["train", "mine.yaml"], ["no file mine.yaml"]),
        (["train", "--planner.horizn", "3"], ["--planner.horizn", "--planner.horizon"]),
        (["train", "--planer.horizon", "3"], ["--planer.horizon", "--planner.horizon"]),
        (["train", "-horizon", "3"], ["no option -horizon; options begin with --"]),
        (["train", "--horizon", "3"], ["--behaviour.horizon or --planner.horizon?"]),
        (
            ["train", "--zzzz", "3"],
            ["no option --zzzz; worldmodel train --help-settings"],
        ),
        (["train", "--help-settings", "planer"], ["no section of settings planer; did you mean"]),
        (
            ["train", "--planner.horizon", "three"],
            ["worldmodel: planner.horizon: expected a whole number, got three"],
        ),
        (["train", "--planner.horizon"], ["planner.horizon: its value is missing"]),
        (["train", "--planner.horizon", "--steps", "5"], ["planner.horizon: its value is missing"]),
        (
            ["train", "--planning.warm-start", "5"],
            ["warm_start: expected true or false, got 5"],
        ),
        (["train", "--planner.kind", "cemm"], ["planner.kind: expected one of cem", "'cemm'"]),
        (["train", "--planner.kind"], ["planner.kind: its value is missing"]),
        (["train", "--planner", "cem"], ["planner: expected a section of settings", "got cem"]),
        (
            ["train", "--planner.temperature", "2", "--planner.kind", "cem"],
            ["planner.temperature: a setting of mppi, and planner.kind is cem"],
        ),
        (
            ["train", "--planner.kept-share", "0.5"],
            ["planner.kept_share: renamed; write planner.elites_kept"],
        ),
        (["train", "--planner.horizon", "0"], ["planner.horizon: expected 1 or more, got 0"]),
        (
            ["train", "--planner.candidates=5", "--planner.elites=10", "--planning.proposals=0"],
            ["planner.elites: expected at most planner.candidates = 5, got 10"],
        ),
        (["train", "--env.image_size", "50"], ["env.image_size", "multiple of 16", "50"]),
        (["train", "--learner.model_rate", "nan"], ["learner.model_rate", "finite"]),
        (["train", "--seed", "a"], ["seed: expected a number or several like 0,1,2; got a"]),
        (["train", "--seed", "0,,1"], ["seed: expected", "0,,1"]),
        (["train", "--seed", "-1"], ["seed: expected", "-1"]),
        (["train", "--steps", "0"], ["steps: expected more than 0, got 0"]),
        (["train", "--steps", "many"], ["worldmodel: steps: expected a whole number, got many"]),
        (["train", "--minutes", "abc"], ["worldmodel: minutes: expected a number, got abc"]),
        (["train", "--minutes"], ["minutes: its value is missing: --minutes VALUE"]),
        (["train", "caf\udce9"], [r"expected words in UTF-8, got 'caf\udce9'"]),
        (["train", "--minutes", "-1"], ["minutes: expected more than 0, got -1"]),
        (["train", "--minutes", "nan"], ["minutes: expected more than 0, got nan"]),
        (["train", "toy", "planet"], ["expected one PRESET, got toy and planet"]),
        (["train", "default", "--device", "tpu"], ["device: expected one of cpu, cuda; got 'tpu'"]),
        (["eval"], ["RUN"]),
        (["eval", "nowhere"], ["nowhere holds no config.yaml, so it is not a run"]),
        (["eval", "nowhere", "--episodes", "0"], ["episodes: expected 1 or more, got 0"]),
        (["eval", "nowhere", "--seed", "-3"], ["seed: expected 0 or more, got -3"]),
        (["eval", "nowhere", "--episode", "3"], ["--episode", "--episodes"]),
        (["visualize", "nowhere"], ["nowhere holds no config.yaml, so it is not a run"]),
        (["tasks", "please"], ["please"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_screen(
    words: list[str], answers: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_mistake(capsys, here, words, answers)


@pytest.mark.mujoco
@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["train", "cartpole_swingupp"], ["cartpole_swingupp; did you mean cartpole_swingup?"]),
        (["train", "cartpole"], ["no preset or task cartpole; did you mean cartpole_"]),
        (["train", "--task", "walker_wlk"], ["no task walker_wlk; did you mean walker_walk?"]),
        (["train", "qqqqqq"], ["no preset or task qqqqqq; known: ", "planet", "walker_walk"]),
        (
            ["train", "walker_walk", "--task", "toy"],
            ["task: two are given, walker_walk and --task toy"],
        ),
        (["train", "--env.camera", "9"], ["env.camera: cartpole_swingup has no camera 9"]),
    ],
    ids=str,
)
def test_a_task_that_is_not_there(
    words: list[str], answers: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_mistake(capsys, here, [*words, "--steps", "5"], answers)


def test_a_preset_with_an_unknown_key(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.yaml").write_text("planner: {horizn: 3}\n")
    answer = "mine.yaml: planner.horizn: no such setting; did you mean planner.horizon?"
    assert_mistake(capsys, here, ["train", "mine.yaml"], [answer])


def test_cuda_where_there_is_none(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_mistake(capsys, here, ["train", "toy", "--device", "cuda"], ["device: ", "--device cpu"])


@pytest.mark.parametrize(
    "place", ["afile", "afile/run", "afile/deep/run", "/proc/run", "/dev/null/run"]
)
def test_a_run_that_cannot_be_written(
    place: str, here: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "afile").write_text("mine")
    words = ["train", preset, "--run", place, "--steps", "5"]
    assert_mistake(capsys, here, words, [f"run: {place}" if place == "afile" else place])


def test_a_folder_of_something_else(
    here: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.jpg").write_text("")
    words = ["train", preset, "--run", "photos", "--steps", "5"]
    assert_mistake(capsys, here, words, ["photos exists and is not a run"])


def test_a_run_with_other_settings_names_them(
    here: Path, run: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(run)
    words = ["train", preset, "--run", run, "--planner.horizon", "5", "--env.image-size", "32"]
    answers = ["other settings", "planner.horizon: 4 -> 5", "env.image_size: 16 -> 32"]
    assert_mistake(capsys, here, words, answers)
    assert_mistake(capsys, here, ["train", preset, "--run", run, "--seed", "3"], ["seed: 0 -> 3"])
    assert written(run) == before


def test_a_run_older_than_a_setting_is_not_resumed_with_todays(
    here: Path, run: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (run / "config.yaml").read_text()
    older = [line for line in whole.splitlines() if "swell" not in line]
    (run / "config.yaml").write_text("\n".join(older))
    answers = ["before these settings existed", "config.yaml", "exploration.swell: 1.0"]
    assert_mistake(capsys, here, ["train", preset, "--run", run, "--steps", "5"], answers)
    (run / "config.yaml").write_text(whole)


def test_every_seed_is_looked_at_before_the_first_begins(
    here: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "many-1").write_text("in the way")
    words = ["train", preset, "--run", "many", "--seed", "0,1", "--steps", "5"]
    assert_mistake(capsys, here, words, ["many-1"])


@pytest.mark.mujoco
def test_no_renderer_at_all(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worldmodel.envs import gl, render

    monkeypatch.setattr(render, "_warp_missing", lambda: "warp-lang is not installed")
    monkeypatch.setenv("MUJOCO_GL", "off")
    gl.backend.cache_clear()
    answers = ["env.renderer", "warp-lang is not installed", "MUJOCO_GL", "pip install"]
    try:
        assert_mistake(capsys, here, ["train", "--steps", "5"], answers)
    finally:
        gl.backend.cache_clear()


@pytest.mark.mujoco
@pytest.mark.parametrize("words", [["walker_walk"], ["default"]])
def test_mujoco_4_is_refused_with_what_to_type(
    words: list[str],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from worldmodel.envs import suite

    true = importlib.metadata.version

    def forget() -> None:
        suite.import_suite.cache_clear()
        suite.suite_tasks.cache_clear()

    forget()
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "4.0.0" if name == "mujoco" else true(name),
    )
    answers = ["mujoco", "4.0.0", "pip install", '"mujoco>=3.17,<4"']
    try:
        assert_mistake(capsys, here, ["train", *words, "--steps", "5"], answers)
    finally:
        forget()


# ---------------------------------------------------------------------------- a run


def test_a_run_ends_with_the_score_of_its_final_weights(run: Path) -> None:
    last = read_evaluations(run / "eval.csv")[-1]
    assert len(last.returns) == FINAL_EPISODES
    assert last.env_steps >= STEPS
    assert any((run / "report").iterdir())
    assert len(list((run / "heldout").glob("*.npz"))) == FINAL_EPISODES


def test_the_same_command_again_changes_nothing(
    run: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(run)
    output = run_command(capsys, "train", preset, "--run", run, "--steps", STEPS)
    assert output.code == 0
    assert "has finished" in output.out
    assert "larger --steps" in output.out
    assert written(run) == before


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures: they take seconds, and other tests draw them."""
    monkeypatch.setattr(visualize, "report", lambda *_, **__: None)


@pytest.mark.usefixtures("no_report")
def test_a_larger_limit_resumes_the_run(
    here: Path, run: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, here / "run")
    words = ["train", preset, "--run", "run", "--steps"]
    output = run_command(capsys, *words, 2 * STEPS)
    assert output.code == 0
    assert "already" not in output.out
    evaluations = read_evaluations(here / "run" / "eval.csv")
    first, last = [e.env_steps for e in evaluations if len(e.returns) == FINAL_EPISODES]
    assert STEPS <= first < 2 * STEPS <= last  # the score of the first end is kept
    assert "has finished" in run_command(capsys, *words, STEPS).out


@pytest.mark.usefixtures("no_report")
def test_an_end_without_a_final_score_gets_one(
    here: Path, preset: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", preset, "--run", "run", "--steps", STEPS]

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(online, "evaluate", stop)
        assert run_command(capsys, *words).code == 130
    assert run_command(capsys, *words).code == 0
    assert len(read_evaluations(here / "run" / "eval.csv")[-1].returns) == FINAL_EPISODES


def test_a_run_that_cannot_continue_is_reported_in_one_sentence(
    here: Path, preset: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worldmodel.envs.toy import Toy

    def break_down(*_: Any) -> None:
        raise RuntimeError("the arm fell off")

    monkeypatch.setattr(Toy, "step", break_down)
    output = run_command(capsys, "train", preset, "--run", "run", "--steps", STEPS)
    assert output.code == 1
    assert "the arm fell off" in output.err
    assert len(output.err.splitlines()) == 1


@pytest.mark.slow  # test_presets stops a run by a signal too, and test_loop kills one
@pytest.mark.usefixtures("no_report")
@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGTERM")
def test_a_terminated_run_resumes_where_it_stopped(
    here: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", preset, "--run", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "worldmodel", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        metrics = here / "run" / "metrics.jsonl"
        until = time.monotonic() + 600  # only guards against hanging
        while not (metrics.exists() and "plan_ms" in metrics.read_text()):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == ""
    assert "until interrupted" in out.splitlines()[0]
    assert out.splitlines()[-1].split() == ["worldmodel", *words]
    stopped = checkpoint.load(here / "run" / "checkpoints")
    assert stopped is not None
    assert "interrupted at " in out
    reached = int(out.split("interrupted at ")[1].split()[0].replace(",", ""))
    assert run_command(capsys, *words, "--steps", reached + 1).code == 0
    later = checkpoint.load(here / "run" / "checkpoints")
    assert later is not None
    assert later.state["episodes"] > stopped.state["episodes"]
    assert read_evaluations(here / "run" / "eval.csv")[-1].env_steps > reached


# ---------------------------------------------------------------------------- runs


def listed(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[str, dict[str, Any]]:
    """What ``runs --json`` says, by the name of the folder."""
    output = run_command(capsys, "runs", folder, "--json")
    assert output.code == 0
    return {Path(line["folder"]).name: line for line in json.loads(output.out)}


def test_runs_are_listed_with_their_score_and_state(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("done", "begun", "torn", "unread"):
        shutil.copytree(run, here / "runs" / "deep" / name)
    deep = here / "runs" / "deep"
    shutil.rmtree(deep / "begun" / "checkpoints")
    for file in (deep / "torn" / "checkpoints").glob("*/model.safetensors"):
        file.write_bytes(b"half")
    (deep / "unread" / "config.yaml").write_text("settings: [")
    with run_folder.claim(deep / "begun"):
        assert listed(capsys, here / "runs")["begun"]["state"] == "training now"
    found = listed(capsys, here / "runs")
    assert {name: line["state"] for name, line in found.items()} == {
        "done": "finished",
        "begun": "stopped",
        "torn": "broken",
        "unread": "broken",
    }
    last = read_evaluations(run / "eval.csv")[-1]
    assert found["done"]["env_steps"] == last.env_steps
    assert found["done"]["score"] == pytest.approx(np.mean(last.returns))
    assert found["done"]["episodes"] == FINAL_EPISODES
    assert found["done"]["task"] == "toy"
    assert found["done"]["bytes"] == sum(len(content) for content in written(run).values())
    table = run_command(capsys, "runs", here / "runs").out
    assert table.split()[:8] == [
        "folder",
        "task",
        "env",
        "steps",
        "score",
        "state",
        "size",
        "changed",
    ]
    assert len(table.splitlines()) == 5
    assert listed(capsys, deep / "done").keys() == {"done"}


def test_no_runs_are_a_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_mistake(capsys, here, ["runs"], ["no folder runs; the first `worldmodel train`"])
    (here / "runs").mkdir()
    assert run_command(capsys, "runs").out == "no run in runs\n"


def test_an_older_run_is_put_away_and_a_new_one_begins(
    here: Path, run: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other settings, which would be refused without --anew."""
    shutil.copytree(run, here / "run")
    shutil.copytree(run / "heldout", here / "run.old-1")
    words = ["train", preset, "--run", "run", "--steps", STEPS, "--planner.horizon", "3"]
    with run_folder.claim(here / "run"):
        assert_mistake(capsys, here, [*words, "--anew"], ["is training run; wait"])
    with pytest.MonkeyPatch.context() as patch:
        asked = started(patch)
        output = run_command(capsys, *words, "--anew")
        assert len(asked) == 1
    assert output.code == 0
    assert "the older run run is now run.old-2" in output.out
    assert not (here / "run").exists()
    assert len(written(here / "run.old-2")) == len(written(run))


def test_a_dry_run_prints_and_creates_nothing(
    here: Path,
    preset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "load", lambda: 0.0)
    output = run_command(capsys, "train", preset, "--steps", 1000, "--dry-run")
    assert output.code == 0
    lines = output.out.splitlines()
    assert [line.split()[0] for line in (lines[1], *lines[3:])] == [
        *("time", "memory", "disk", "nothing")
    ]
    assert "for 1,000 env steps and the final evaluation" in lines[1]
    assert list(here.iterdir()) == []


# ------------------------------------------------------------------------- values of options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("eval run --episodes abc", "episodes: expected a whole number, got abc"),
        ("eval run --episodes=2.5", "episodes: expected a whole number, got 2.5"),
        ("eval run --seed", "seed: expected a whole number, got nothing"),
        ("eval run --video --json", "video: expected a path, got nothing"),
        ("eval run --renderer ink", "renderer: expected one of auto, warp, gl, got ink"),
        ("visualize run --out", "out: expected a path, got nothing"),
        ("compare run --out", "out: expected a path, got nothing"),
        ("export run --prune half", "prune: expected a number, got half"),
        ("export run --bits 16", "bits: expected one of 32, 8, got 16"),
        ("export run --to tflite", "to: expected one of onnx, got tflite"),
        ("export run --episodes few", "episodes: expected a whole number, got few"),
        ("export run --planner", "planner: expected a word, got nothing"),
        ("watch run --port http", "port: expected a whole number, got http"),
        ("demo --episodes two", "episodes: expected a whole number, got two"),
        ("demo --seed 1e3", "seed: expected a whole number, got 1e3"),
        ("dream --port=", "port: expected a whole number, got "),
        ("dream --html", "html: expected a path, got nothing"),
        ("bench plan --repetitions many", "repetitions: expected a whole number, got many"),
        ("bench plan --threads 0", "threads: expected 1 or more, got 0"),
        ("bench plan --threads 1.5", "threads: expected a whole number, got 1.5"),
        ("doctor --pictures", "pictures: expected a path, got nothing"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(
    words: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run_command(capsys, *words.split())
    assert (output.code, output.out) == (2, "")
    assert output.err == f"worldmodel: {said}\n"
    assert list(here.iterdir()) == []


def test_options_without_a_value_may_still_be_none(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run_command(capsys, "eval", "run", "--renderer", "None", "--video", "None")
    assert "run: " in output.err  # the next mistake: there is no run


# ---------------------------------------------------------------------------- eval, visualize


def test_eval_ends_with_one_line_of_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys, "eval", run, "--episodes", 2, "--seed", 5, "--json", "--baselines")
    assert output.code == 0
    (line,) = output.out.splitlines()
    answer = json.loads(line)
    assert {*answer} == {
        *("mean", "std", "returns", "env_steps", "plan_ms_p50", "plan_ms_p99"),
        *("random_mean", "zero_mean"),
    }
    assert len(answer["returns"]) == 2
    assert answer["mean"] == np.mean(answer["returns"])
    assert answer["std"] == np.std(answer["returns"])
    assert 0 < answer["plan_ms_p50"] <= answer["plan_ms_p99"]
    assert "episode 0" in output.err
    again = run_command(capsys, "eval", run, "--episodes", 1, "--seed", 6, "--json")
    assert json.loads(again.out)["returns"] == answer["returns"][1:]


def test_eval_without_json_is_for_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_command(capsys, "eval", run, "--episodes", 1)
    assert output.code == 0
    assert output.err == ""
    for word in ("episode 0: return", "score", "±", "1 episode of 160 env steps\n", "ms"):
        assert word in output.out


def test_the_lengths_of_episodes_are_not_taken_for_the_training() -> None:
    from worldmodel.cli import play

    def lengths(*steps: int) -> str:
        return play._lengths([SimpleNamespace(total_env_steps=each) for each in steps])  # type: ignore[misc]

    assert lengths(1000) == "of 1,000 env steps"
    assert lengths(1000, 1000) == "of 1,000 env steps each"
    assert lengths(1000, 40, 200) == "of 40 to 1,000 env steps"


def test_eval_writes_a_gif(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import imageio.v3 as imageio

    assert run_command(capsys, "eval", run, "--episodes", 1, "--video", "deep/er/v.gif").code == 0
    images = imageio.imread(here / "deep" / "er" / "v.gif")
    assert images.shape == (21, 64, 64, 3)  # 160 steps, 8 a row; 16 pixels, four times
    assert [path.name for path in (here / "deep" / "er").iterdir()] == ["v.gif"]


def test_eval_writes_an_mp4(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    assert run_command(capsys, "eval", run, "--episodes", 1, "--video", "v.mp4").code == 0
    assert ffmpeg.count_frames_and_secs("v.mp4")[0] == 21
    assert [path.name for path in here.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize(
    ("video", "answer"),
    [("v.avi", "v.mp4 or v.gif"), ("afile/v.gif", "afile is a file"), ("v", "v.mp4 or v.gif")],
)
def test_a_video_that_cannot_be(
    video: str, answer: str, here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "afile").write_text("")
    assert_mistake(capsys, here, ["eval", run, "--video", video], ["video: ", answer])


def test_a_run_of_nearly_that_name(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs" / "toy-0").mkdir(parents=True)
    (here / "runs" / "toy-0" / "config.yaml").write_text((run / "config.yaml").read_text())
    assert_mistake(capsys, here, ["eval", "runs/toy-1"], ["did you mean runs/toy-0?"])
    assert_mistake(capsys, here, ["eval", "runs/toy-0"], ["no checkpoint yet"])


def test_another_renderer_is_used_only_when_asked_for(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = yaml.safe_load((run / "config.yaml").read_text())
    about["environment"]["renderer"] = "gl"
    moved = here / "moved"
    moved.mkdir()
    (moved / "config.yaml").write_text(yaml.safe_dump(about))
    shutil.copytree(run / "checkpoints", moved / "checkpoints")
    answers = ["trained on images of gl", "toy would draw", "--renderer gl", "--renderer toy"]
    assert_mistake(capsys, here, ["eval", moved], answers)
    assert_mistake(capsys, here, ["eval", moved, "--renderer", "gl"], ["toy alone, got gl"])
    output = run_command(capsys, "eval", moved, "--renderer", "auto", "--episodes", 1)
    assert output.code == 0
    assert "drawn by toy; the run was trained on images of gl" in output.out


@pytest.fixture
def received(here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose config.yaml names a module, which writes a file when it is imported."""
    pytest.importorskip("gymnasium")
    (here / "stranger.py").write_text("open('imported', 'w').close()")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    copy = here / "received"
    shutil.copytree(run, copy)
    about = yaml.safe_load((copy / "config.yaml").read_text())
    about["settings"]["task"] = "gym:stranger:Robot-v0"
    (copy / "config.yaml").write_text(yaml.safe_dump(about))
    return copy


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "{run}", "--episodes", "1"),
        ("export", "{run}", "--episodes", "1"),
        ("bench", "plan", "--repetitions", "1", "--run", "{run}"),
    ],
    ids=lambda words: words[0],
)
def test_no_module_is_imported_that_a_received_run_names(
    command: tuple[str, ...],
    here: Path,
    received: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from worldmodel import bench, export

    monkeypatch.setattr(export, "require_libraries", lambda: None)
    monkeypatch.setattr(bench, "bench_plan", lambda *_: [])
    words = [word.format(run=received) for word in command]
    output = run_command(capsys, *words)
    assert (output.code, "would import the module stranger" in output.err) == (2, True), output.err
    assert "--trust" in output.err
    assert not (here / "imported").exists()
    output = run_command(capsys, *words, "--trust")
    assert (output.code, "gymnasium knows no stranger:Robot-v0" in output.err) == (2, True), (
        output.err
    )
    assert (here / "imported").exists()


def test_a_report_of_a_received_run_imports_no_module(
    here: Path, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_folder.read_run(received)
    for trust in (False, True):
        with pytest.raises(NoTruthError, match=r"stranger") as no:
            true_states(config, [], [], trust=trust)
        assert ("--trust" in str(no.value)) != trust
        assert (here / "imported").exists() == trust


def test_watch_and_visualize_import_a_module_only_with_trust(
    here: Path, received: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from worldmodel import report

    asked: list[bool] = []

    def note(*_: Any, trust: bool = False, **__: Any) -> Any:
        asked.append(trust)
        raise ConfigError("enough")

    monkeypatch.setattr(report, "visualize_run", note)
    for words in ([], ["--trust"]):
        run_command(capsys, "visualize", received, *words)
    assert asked == [False, True]


def test_a_preset_that_names_a_module_trains_only_where_the_task_is_typed(
    here: Path, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = here / "sent.yaml"
    preset.write_text(yaml.safe_dump({**TINY, "task": "gym:stranger:Robot-v0"}))
    words = ["train", preset, "--steps", "50", "--run", "new"]
    assert_mistake(capsys, here, words, ["sent.yaml names gym:str", "--task gym:stranger:Robot-v0"])
    assert not (here / "imported").exists()
    for typed in (["--task", "gym:stranger:Robot-v0"], ["--task=gym:stranger:Robot-v0"]):
        output = run_command(capsys, *words, *typed)
        assert (output.code, "gymnasium knows no stranger:Robot-v0" in output.err) == (2, True)
    assert (here / "imported").exists()


def test_visualize_writes_a_report(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report_quickly(monkeypatch)
    output = run_command(capsys, "visualize", run, "--out", "seen")
    assert output.code == 0
    assert "open-loop" in output.out
    begins, *drawn = list(output.err.splitlines())
    assert begins.startswith(f"drawing the report of {run}")
    assert "  drawn: report.html" in drawn
    assert any((here / "seen").iterdir())
    (here / "afile").write_text("")
    words = ["visualize", run, "--out", "afile/seen"]
    assert_mistake(capsys, here, words, ["out: ", "afile is a file"])


def test_a_missing_run_is_answered_with_a_similar_one_in_python_too(here: Path) -> None:
    (here / "runs" / "one").mkdir(parents=True)
    (here / "runs" / "one" / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"runs/two holds no .*; did you mean runs/one\?"):
        run_folder.load("runs/two")


def test_a_command_prints_our_warnings_once_though_the_root_logger_has_a_screen(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As absl gives it one, which comes with the simulator."""
    root = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [root])
    monkeypatch.setattr(sys, "argv", ["worldmodel", "tasks"])
    monkeypatch.setattr(tasks, "_list_tasks", lambda: run_folder.logger.warning("once") or 0)
    assert main() == 0
    assert capsys.readouterr().err == "once\n"
    assert run_folder.logger.propagate


def test_our_warnings_reach_the_screen_once(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: Any, **__: Any) -> Any:
        run_folder.logger.warning("kernels are compiled")
        raise RuntimeError("enough")

    monkeypatch.setattr(envs, "make_env_of_file", warn)
    library = logging.StreamHandler()  # some libraries give one to the root logger
    monkeypatch.setattr(logging.getLogger(), "handlers", [library])
    for _ in range(2):
        library.setStream(io.StringIO())
        assert run_command(capsys, "eval", run).err == "kernels are compiled\nworldmodel: enough\n"
        assert library.stream.getvalue() == ""


STUBBORN = """
import pathlib, subprocess, time
started = subprocess.Popen(["sleep", "600"])
pathlib.Path({pid_file!r}).write_text(str(started.pid))
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


def is_at_work(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_watch_ends_at_once_though_it_draws_and_leaves_no_process(
    run: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Drawing that ignores interrupts and starts a program, as matplotlib and ffmpeg do."""
    copy, pid_file = tmp_path / "run", tmp_path / "started"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report"))
    fake = tmp_path / "fake" / "imageio"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "v3.py").write_text(STUBBORN.format(pid_file=str(pid_file)))
    command = [sys.executable, "-m", "worldmodel", "watch", str(copy), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(fake.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            give_up = time.monotonic() + 600  # only guards against hanging
            while not (pid_file.exists() and pid_file.read_text()):
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.05)
            process.send_signal(number)
            _, said = process.communicate(timeout=300)  # not killed, drawing would take 600 s
            assert (process.returncode, said) == (0, "")
            assert not is_at_work(int(pid_file.read_text()))
        finally:
            process.kill()
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
