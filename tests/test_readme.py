"""The pages: their examples run, and the files, links and options that they name exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import itertools
import json
import re
import shlex
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import worldmodel
from tests.arm import (
    CAMERA_FAULTS,
    CHANGE,
    FAULTS,
    HIGH,
    MOTOR_FAULTS,
    Arm,
    Ended,
    Record,
    Trial,
    complain,
)
from tests.conftest import TINY
from tests.test_house import FLOOR_OF
from worldmodel import cli
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import RENAMED, hints, read, sections
from worldmodel.compare import read_scores
from worldmodel.config import Config
from worldmodel.loop import online
from worldmodel.loop.reporter import SHOWN
from worldmodel.models import build
from worldmodel.robot import Controller
from worldmodel.robot.levels import LEVELS
from worldmodel.structs import Spec

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
} | {"assets/README.md": (ROOT / "assets/README.md").read_text()}
README = PAGES["README.md"]
# The words that tell the Python blocks apart. Each block is run by a test below.
TEN_LINES, CONTROLLER, CORRIDOR = "robot.execute(plan.first)", "Controller(", "class Corridor"
FOLLOWER, CAMERA, DELAY = "ILQR(", "cv2.VideoCapture", "delay="
DASHBOARD, NOTEBOOK = "trackio.log(", "open_run("


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of each block of code in this language; docs/api.md has tests of its own."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (page, block)
        for page, text in PAGES.items()
        if page != "docs/api.md"
        for block in pattern.findall(text)
    ]


def example(mark: str) -> str:
    """The Python block with these words."""
    (found,) = (block for _, block in blocks("python") if mark in block)
    return found


def test_the_first_page_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1_300


def test_every_python_block_is_one_that_a_test_runs() -> None:
    marks = (TEN_LINES, CONTROLLER, CORRIDOR, FOLLOWER, CAMERA, DELAY, DASHBOARD, NOTEBOOK)
    for page, block in blocks("python"):
        assert sum(mark in block for mark in marks) == 1, (page, block)


def test_the_robots_ten_lines_run(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them unchanged, with a camera and a robot that stops after four images."""
    code = example(TEN_LINES)
    model = build(tiny.model, Spec((64, 64, 3), 2))
    executed: list[np.ndarray] = []

    class Stop(Exception):  # noqa: N818
        pass

    class Robot:
        def execute(self, action: np.ndarray) -> np.ndarray:
            executed.append(action)
            if len(executed) == 4:
                raise Stop
            return np.clip(action, -0.5, 0.5)

    def camera() -> np.ndarray:
        return np.full((64, 64, 3), 50 * len(executed), np.uint8)

    monkeypatch.setattr(worldmodel, "load", lambda run: agent_of(tiny, model))
    with pytest.raises(Stop):
        exec(code, {"camera": camera, "robot": Robot()})
    assert all(action.shape == (2,) for action in executed)
    assert np.abs(executed).max() <= 1


HALF_A_PERIOD_MS = 10.0  # so long may a step wait for its plan
LONGEST_GAP_S = 5.0  # between commands, on any machine: a planner that hangs does so for ever


class ArmTask:
    """The task: hold both joints at their start; actions in [-1, 1] span the motors' range."""

    action_low, action_high = np.full(2, -1.0), np.full(2, 1.0)

    def reset(self) -> worldmodel.Step:
        self.arm, self.time = Arm(seed=0), 0
        return worldmodel.Step(self.arm.image())

    def step(self, action: np.ndarray) -> worldmodel.Step:
        self.arm.move(HIGH * action)
        self.time += 1
        reward = float(np.cos(self.arm.angle).sum())
        return worldmodel.Step(self.arm.image(), reward, is_last=self.time == 20)


@pytest.fixture
def run_of_an_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slightly trained agent, in the folder from which the example loads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    config = read(Config(), {**TINY, "task": "arm"})
    run = "runs/default-ball_in_cup_catch-0"
    assert f'"{run}"' in example(CONTROLLER)
    worldmodel.train(config, run, env=ArmTask(), steps=60)
    took_ms = median_plan_ms(worldmodel.load(run))
    if took_ms > HALF_A_PERIOD_MS:
        pytest.skip(f"a plan takes {took_ms:.0f} ms here now, too long for 50 images a second")
    # a process may take its time to begin where others are at work
    monkeypatch.setitem(cast(Any, Controller.__init__).__kwdefaults__, "start_s", 600.0)


def median_plan_ms(agent: Agent) -> float:
    belief, image, took = agent.initial(), Arm(seed=0).image(), []
    for _ in range(25):
        begun = time.perf_counter()
        agent.plan(agent.observe(belief, agent.no_action(), image))
        took.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(took))


def drive_an_arm(script: Callable[[Trial], Iterator[None]]) -> tuple[Controller, Record]:
    """Run the example unchanged to the end of the script; the arm checks every command."""
    names: dict[str, Any] = {"__name__": "__main__"}
    trial = Trial(names, seed=0)
    trial.script = script(trial)
    names |= {"camera": trial.camera, "robot": trial, "button": trial}
    try:
        with pytest.raises(Ended):
            exec(example(CONTROLLER), names)
    finally:
        record = trial.close()
    controller = trial.controller
    assert [each for each in record.commands if each.complaint is not None] == []
    sent = np.stack([each.action for each in record.commands])
    assert largest_change(sent) > 0  # in haste it follows a policy that has hardly learned
    gaps = np.diff([each.at for each in record.commands])
    assert gaps.max() < LONGEST_GAP_S
    counts = controller.counts
    print(
        f"{record.seconds:.0f} s, {record.images} images, {len(sent)} commands, gaps:"
        f" median {1e3 * np.median(gaps):.0f} ms, longest {1e3 * gaps.max():.0f} ms; {counts}"
    )
    assert sum(counts[level] for level in LEVELS) == len(sent)
    assert all(counts[level] > 0 for level in LEVELS)
    assert counts["own_error"] == counts["bad_plan"] == counts["planner_error"] == 0
    return controller, record


def largest_change(actions: np.ndarray) -> float:
    return float(np.abs(np.diff(actions, axis=0)).max())


def test_the_controller_example_drives_an_arm_with_faults(
    run_of_an_arm: None,
) -> None:
    kinds = {**CAMERA_FAULTS, **MOTOR_FAULTS}
    drive_an_arm(lambda trial: trial.all_faults_once(kinds))


@pytest.mark.slow
def test_the_controller_example_drives_an_arm_with_faults_for_a_minute(run_of_an_arm: None) -> None:
    controller, record = drive_an_arm(lambda trial: trial.for_so_long(60.0, FAULTS))
    assert record.seconds >= 60
    assert largest_change(np.stack([each.action for each in record.commands])) > CHANGE / 2
    assert all(controller.counts[counted] > 0 for counted in FAULTS.values() if counted)
    assert controller.counts["restarted"] >= 2  # the one that was killed, the one that hung


def test_the_arm_sees_a_command_that_breaks_a_promise() -> None:
    good = np.array([1.0, -1.9], np.float32)
    assert complain(good, good) is None
    for bad, said in (
        (good.astype(np.float64), "no float32"),
        (good[:1], "no float32"),
        (good * np.float32("nan"), "not finite"),
        (np.array([1.0, -2.001], np.float32), "outside"),
        (np.array([1.0, -1.699], np.float32), "changed too far"),
    ):
        assert said in str(complain(bad, good))


def test_a_task_of_ones_own_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the class unchanged, train a tiny model for a few episodes, and read its numbers.

    The lines for a dashboard get these numbers too, with a stand-in for the dashboard.
    """
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    names: dict[str, object] = {"__name__": "corridor"}
    exec(example(CORRIDOR), names)
    env = names["Corridor"]()  # type: ignore[operator]
    worldmodel.envs.check_env(env)
    config = read(Config(), {**TINY, "task": "corridor", "env": {"image_size": 64}})
    sent: list[tuple[dict[str, float], int]] = []
    send = dashboard("part", monkeypatch, lambda numbers, step: sent.append((numbers, step)))
    outcome = worldmodel.train(config, tmp_path / "run", env=env, steps=100, on_round=send)
    assert outcome.env_steps >= 100
    assert sent[-1][0]["env_steps"] == outcome.env_steps
    assert [step for _, step in sent] == sorted(step for _, step in sent)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    written = set().union(*(json.loads(line) for line in lines))
    assert "loss/image" in written
    assert written <= words_of_numbers().keys()


def dashboard(
    name: str, monkeypatch: pytest.MonkeyPatch, log: Callable[[dict[str, float], int], None]
) -> Callable[[worldmodel.loop.Round], None]:
    """Run the lines for a dashboard under this ``__name__``; return their function."""
    stand_in = types.ModuleType("trackio")
    stand_in.__dict__.update(init=lambda project: None, log=log, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    names: dict[str, Any] = {"__name__": name}
    exec(example(DASHBOARD), names)
    return cast("Callable[[worldmodel.loop.Round], None]", names["send"])


def test_the_lines_for_a_dashboard_train_with_their_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = inspect.signature(worldmodel.train)
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(
        worldmodel,
        "train",
        lambda *words, **named: given.append(real.bind(*words, **named).arguments),
    )
    send = dashboard("__main__", monkeypatch, lambda numbers, step: None)
    assert given == [
        {"config": Config(), "run": "runs/cartpole", "steps": 100_000, "on_round": send}
    ]


def words_of_numbers() -> dict[str, str]:
    """The glossary: each number in metrics.jsonl, and its word on the screen."""
    table = PAGES["docs/glossary.md"].split("## Numbers of a run")[1].split("\n\n")[2]
    rows = [[cell.strip(" `") for cell in row.split("|")[1:3]] for row in table.splitlines()[2:]]
    return dict(rows)


def test_the_glossary_has_the_words_of_the_screen() -> None:
    shown = {name: word for group in SHOWN for name, word in group.words.items() if word}
    assert shown.items() <= words_of_numbers().items()


def test_each_entry_of_the_diary_has_the_same_parts_and_is_in_the_index() -> None:
    head, *entries = PAGES["docs/diary.md"].split("---\n\n")[1].split("\n## ")
    entries = [head.removeprefix("## "), *entries]
    index = re.findall(r"^\| \[(.+?)\]\(#", PAGES["docs/diary.md"], re.MULTILINE)
    assert index == [entry.splitlines()[0] for entry in entries]
    for entry in entries:
        parts = [entry.find(f"**{part}.**") for part in ("Question", "Tried", "Verdict", "Files")]
        assert -1 not in parts, entry.splitlines()[0]
        assert parts == sorted(parts), entry.splitlines()[0]


def test_a_camera_of_opencv_gives_images_for_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines for OpenCV as they stand, with a stand-in for it."""
    seen = np.zeros((480, 640, 3), np.uint8)
    seen[:, 80:560, 0] = 200  # blue comes first, and only in the middle

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def read(self) -> tuple[bool, np.ndarray]:
            return True, seen

    stand_in = types.ModuleType("cv2")
    stand_in.__dict__.update(
        VideoCapture=Device, COLOR_BGR2RGB=4, cvtColor=lambda image, code: image[..., ::-1]
    )
    monkeypatch.setitem(sys.modules, "cv2", stand_in)
    names: dict[str, Any] = {}
    exec(example(CAMERA), names)
    image = names["camera"]()
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert (image == (0, 0, 200)).all()


def test_actions_under_way_are_those_that_no_image_shows_yet(tiny: Config) -> None:
    """The lines for delay as they stand: an action is observed two rows after it was sent."""
    agent = agent_of(tiny, build(tiny.model, Spec((64, 64, 3), 2)))
    observed: list[np.ndarray] = []
    delays: list[np.ndarray] = []
    sent: list[np.ndarray] = []
    observe, plan = agent.observe, agent.plan

    def noted_observe(belief: Any, action: np.ndarray, image: np.ndarray) -> Any:
        observed.append(action)
        return observe(belief, action, image)

    def noted_plan(belief: Any, **named: Any) -> Any:
        delays.append(named["delay"])
        found = plan(belief, **named)
        sent.append(found.first)
        return found

    agent.observe, agent.plan = noted_observe, noted_plan  # type: ignore[method-assign, assignment]
    images = [np.full((64, 64, 3), 40 * number, np.uint8) for number in range(5)]
    exec(example(DELAY), {"agent": agent, "images": images})
    still = agent.no_action()
    np.testing.assert_array_equal(observed, [still, still, still, sent[0], sent[1]])
    np.testing.assert_array_equal(delays[3], [sent[1], sent[2]])


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each command, in blocks and in running text."""
    for page, block in blocks("bash"):
        for line in block.splitlines():
            for part in re.split(r"&&|\|", line):
                yield page, shlex.split(part)
    for page, text in PAGES.items():
        for line in re.findall(r"`((?:worldmodel|python -m|python -X dev -m) [^`]+)`", text):
            yield page, shlex.split(line.replace("...", ""))


def test_every_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command exists and takes the options that are shown with it."""
    helps: dict[str, str] = {}
    understood = 0
    for page, words in shown_commands():
        if words[0] != "worldmodel" or len(words) == 1:
            continue
        command, *rest = words[1:]
        if command in ("--help", "--version"):
            continue
        assert command in cli.COMMANDS, (page, words)
        if command not in helps:
            helps[command] = help_of(command, capsys)
        for option in rest:
            if option.startswith("--") and option != "--help":
                assert option.replace("_", "-") in helps[command], (page, words)
        understood += 1
    assert understood >= 20


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """All help of a command, with - in the names of options."""
    assert cli.main([command, "--help"]) == 0
    assert command != "train" or cli.main([command, "--help-settings"]) == 0
    return capsys.readouterr().out.replace("_", "-")


def test_every_command_is_in_the_list_of_commands() -> None:
    table = PAGES["docs/README.md"].split("## Commands")[1]
    assert set(re.findall(r"^\| `worldmodel (\w+)", table, re.MULTILINE)) == set(cli.COMMANDS)


def test_the_sections_of_a_report_have_the_headings_that_are_listed() -> None:
    table = PAGES["docs/README.md"].split("| section | shows |")[1].split("\n\n")[0]
    headings = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    source = "".join(path.read_text() for path in (ROOT / "worldmodel/report").glob("*.py"))
    assert len(headings) >= 10
    for heading in headings:
        assert f'"{heading}"' in source, heading


@pytest.mark.slow
def test_the_commands_that_look_at_a_run_do_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the lines of the first page as they stand, on a small run in the place of the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(online, "FINAL_EPISODES", 3)
    run = Path("runs/default-cartpole_swingup-0")
    worldmodel.train(read(Config(), TINY), run, steps=200)
    looked = [
        words for page, words in shown_commands() if page == "README.md" and str(run) in words
    ]
    assert [words[1] for words in looked] == ["eval", "visualize"]
    for words in looked:
        assert cli.main(words[1:]) == 0
    assert Path("swingup.mp4").stat().st_size > 1_000
    assert (run / "report/report.html").stat().st_size > 10_000


def test_every_program_that_is_shown_exists() -> None:
    """Programs in blocks are known ones; modules that are run with -m exist, with their options."""
    programs = {"pip", "python", "worldmodel", "ruff", "mypy", "git", "diff", "."}
    for page, words in shown_commands():
        assert words[0] in programs, (page, words)
        if "-m" not in words or words[0] != "python":
            continue
        module = importlib.util.find_spec(words[words.index("-m") + 1])
        assert module is not None, (page, words)
        if words[words.index("-m") + 1].startswith(("worldmodel.", "tests.")):
            source = Path(str(module.origin)).read_text().replace("_", "-")
            for option in words:
                if option.startswith("--"):
                    assert option.removeprefix("--") in source, (page, words)


SECTIONS = [
    field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.default)
]
SETTING = re.compile(r"`(?:--)?((?:%s)\.\w[\w.]*)" % "|".join(sorted(SECTIONS)))  # noqa: UP031


def test_every_setting_that_is_named_exists() -> None:
    named = [(page, name) for page, text in PAGES.items() for name in SETTING.findall(text)]
    assert len(named) >= 20
    for page, name in named:
        is_file = name.endswith((".py", ".json"))
        if is_file or name in RENAMED:  # RENAMED: former names
            continue
        assert is_setting(Config, name.split(".")), (page, name)


def is_setting(kind: Any, path: list[str]) -> bool:
    """Whether a dataclass, or any kind of a part, has a setting with this path."""
    if not path:
        return True
    options = [each for each in sections(kind) or [kind] if dataclasses.is_dataclass(each)]
    return any(
        path[0] in hints(each) and is_setting(hints(each)[path[0]], path[1:]) for each in options
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for name in re.findall(r"\]\(((?!http)[^)#]+)(?:#[^)]*)?\)", PAGES[page]):
        assert ((ROOT / page).parent / name).exists(), name


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in PAGES:
            continue
        reached.add(page)
        for name in re.findall(r"\]\(((?!http)[^)#]+)", PAGES[page]):
            path = ((ROOT / page).parent / name).resolve()
            waiting.append(str(path.relative_to(ROOT)))
    assert reached == set(PAGES)


def test_every_measurement_is_linked_from_a_page() -> None:
    linked = {
        ((ROOT / page).parent / name).resolve()
        for page, text in PAGES.items()
        for name in re.findall(r"\]\(((?!http)[^)#]+)", text)
    }
    for path in (ROOT / "assets").rglob("*"):
        if (
            path.is_file()
            and path.name != "README.md"
            and ROOT / "assets/scores" not in path.parents
        ):
            assert path in linked, path
    assert {path for path in (ROOT / "assets/scores").iterdir() if path.is_dir()} <= linked


def test_the_index_of_measurements_is_short_and_names_every_file() -> None:
    page = PAGES["assets/README.md"]
    assert len(page.splitlines()) <= 60
    patterns = re.findall(r"[\w*-]+\.(?:csv|png|gif|json)", page)
    for folder in ("", "bench", "trials", "reports"):
        for path in (ROOT / "assets" / folder).glob("*.*"):
            known = path.name == "README.md" or path.name == "plan_deadlines.png"
            assert known or any(path.match(pattern) for pattern in patterns), path


def rooms_of_the_map() -> list[list[str]]:
    """The names in each row of the map, from top to bottom."""
    rows = README.split("| room | what it does |")[1].split("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in rows.splitlines()[2:]]


def test_every_room_of_the_map_exists() -> None:
    for name in itertools.chain(*rooms_of_the_map()):
        assert (ROOT / "worldmodel" / name).exists() or (ROOT / name).exists(), name


def test_the_map_shows_every_room_with_lower_floors_below() -> None:
    rows = [[name.strip("/").removesuffix(".py") for name in row] for row in rooms_of_the_map()]
    shown = [room for row in rows for room in row if room != "configs"]  # no room: YAML alone
    assert sorted(shown) == sorted(FLOOR_OF)
    floors = [FLOOR_OF[room] for room in shown]
    assert floors == sorted(floors, reverse=True)


def test_another_planner_follows_a_goal(tiny: Config) -> None:
    """The lines for iLQR as they stand."""
    code = example(FOLLOWER)
    agent = agent_of(tiny, build(tiny.model, Spec((64, 64, 3), 2)))
    names: dict[str, Any] = {"agent": agent, "belief": agent.initial()}
    exec(code, {**names, "camera": lambda: np.zeros((64, 64, 3), np.uint8)}, names)
    assert names["plan"].first.shape == (2,)
    assert names["goal"].action_cost > 0


def test_the_parts_that_can_be_added_have_the_places_that_are_named() -> None:
    table = PAGES["docs/parts.md"].split("| to add |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:-1] for row in table.splitlines()[2:]]
    assert len(rows) == 8
    for part, file, _, union in rows:
        for folder in re.findall(r"`(\w+/[\w/.]*)`", file.replace("NAME.py", "") + union):
            assert (ROOT / "worldmodel" / folder).exists(), (part, folder)
        for name in re.findall(r"`([A-Z]\w+)` (?:and `\w+` )?in `([\w/.]+)`", union):
            module = name[1].strip("/").removesuffix(".py").replace("/", ".")
            assert hasattr(importlib.import_module(f"worldmodel.{module}"), name[0]), name


def test_every_heading_that_is_linked_exists() -> None:
    for page, text in PAGES.items():
        for file, anchor in re.findall(r"\]\(((?!http)[^)#]*)#([^)]+)\)", text):
            linked = ((ROOT / page).parent / file).read_text() if file else text
            headings = re.findall(r"^#+ (.+)$", linked, re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in headings}
            assert anchor in known, (page, anchor)


def test_every_table_of_scores_says_what_the_files_say() -> None:
    """The final scores of results.md are those of the score files, to the unit."""
    table = PAGES["docs/results.md"].split("## Final scores")[1].split("\n\n")[1]
    task = ""
    for row in table.splitlines()[2:]:
        named, seed, steps, _, score = (cell.strip() for cell in row.strip("|").split("|"))
        task = named or task
        (curve,) = read_scores(ROOT / f"assets/scores/{task}-{seed.split()[0]}.csv")
        returns = np.array(curve.evaluations[-1].returns)
        assert curve.env_steps[-1] == pytest.approx(int(steps.replace(",", "")), abs=500)
        assert score == f"{returns.mean():.0f} ± {returns.std():.0f}", (task, seed)
