import io
import json
import math
import sys
import types
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from worldmodel.log import (
    Evaluation,
    Journal,
    Progress,
    read_evaluations,
    read_metrics,
    sparkline,
)


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def fill(journal: Journal, first: int, last: int) -> None:
    for step in range(first, last):
        journal.metrics({"loss/image": step / 3, "wall_clock_s": float(step), "env_steps": step})
        journal.evaluation(step, float(step), returns=[step / 7, -step], seeds=[step, step + 1])


def texts(run) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("metrics.jsonl", "eval.csv")]


def test_what_is_written_is_read(tmp_path):
    journal = Journal(tmp_path / "run")
    fill(journal, 0, 3)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == [
        {"env_steps": step, "wall_clock_s": float(step), "loss/image": step / 3}
        for step in range(3)
    ]
    assert read_evaluations(tmp_path / "run" / "eval.csv") == [
        Evaluation(step, float(step), returns=[step / 7, -step], seeds=[step, step + 1])
        for step in range(3)
    ]


def test_a_line_begins_with_where_the_run_is(tmp_path):
    Journal(tmp_path).metrics({"b": 1, "wall_clock_s": 2.0, "a": "text", "env_steps": 3})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == '{"env_steps": 3, "wall_clock_s": 2.0, "b": 1, "a": "text"}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_finite_is_null(tmp_path, value):
    Journal(tmp_path).metrics({"env_steps": 1, "loss": value})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"env_steps": 1, "loss": None}
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl")[0]["loss"])


def test_numbers_of_numpy_are_numbers(tmp_path):
    Journal(tmp_path).metrics({"env_steps": np.int64(4), "loss": np.float32(0.5)})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"env_steps": 4, "loss": 0.5}\n'


def test_the_score_file_says_what_a_step_is(tmp_path):
    Journal(tmp_path).evaluation(8000, 12.5, returns=[1.5, math.nan], seeds=[100, 101])
    lines = (tmp_path / "eval.csv").read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert "action repeat included" in comments[0]
    assert lines[len(comments) :] == [
        "env_steps,wall_clock_s,episode,seed,return",
        "8000,12.500,0,100,1.5",
        "8000,12.500,1,101,nan",
    ]


def test_a_rewound_run_writes_what_an_uninterrupted_one_does(tmp_path):
    whole = Journal(tmp_path / "whole")
    fill(whole, 0, 5)
    killed = Journal(tmp_path / "killed")
    fill(killed, 0, 2)
    position = json.loads(json.dumps(killed.position()))  # as it travels in a checkpoint
    fill(killed, 2, 4)
    again = Journal(tmp_path / "killed")
    again.rewind(position)
    fill(again, 2, 5)
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")


def test_rewinding_to_no_checkpoint_is_beginning(tmp_path):
    fill(Journal(tmp_path / "killed"), 0, 4)
    again = Journal(tmp_path / "killed")
    again.rewind({})
    fill(again, 0, 1)
    fill(Journal(tmp_path / "whole"), 0, 1)
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")


def test_a_torn_last_line_is_not_read_and_goes(tmp_path):
    fill(Journal(tmp_path / "whole"), 0, 4)
    for name in ("metrics.jsonl", "eval.csv"):
        whole = (tmp_path / "whole" / name).read_bytes()
        for length in range(len(whole) + 1):
            run = tmp_path / "torn"
            run.mkdir(exist_ok=True)
            (run / name).write_bytes(whole[:length])
            rows = (read_metrics if name == "metrics.jsonl" else read_evaluations)(run / name)
            assert len(rows) <= 4
            Journal(run)
            after = (run / name).read_bytes()
            assert whole.startswith(after)
            assert after.endswith(b"\n") or after == b""
            assert name == "metrics.jsonl" or after.count(b"return") >= 2  # header and comment


def test_lost_lines_are_reported(tmp_path, caplog):
    journal = Journal(tmp_path)
    fill(journal, 0, 4)
    position = journal.position()
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    journal.rewind(position)
    assert "metrics.jsonl" in caplog.text
    assert "lines are lost" in caplog.text
    assert len(read_evaluations(tmp_path / "eval.csv")) == 4


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2"):
        read_metrics(path)
    path = tmp_path / "eval.csv"
    path.write_text("env_steps,wall_clock_s,episode,seed,return\n4,x,0,0,1\n")
    with pytest.raises(ValueError, match=r"eval\.csv: expected env_steps"):
        read_evaluations(path)


def test_every_return_has_a_seed(tmp_path):
    with pytest.raises(ValueError, match="longer"):
        Journal(tmp_path).evaluation(1, 1.0, returns=[1.0, 2.0], seeds=[1])


def test_tensorboard_mirrors_the_numbers_where_it_is_installed(tmp_path, monkeypatch):
    told: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    journal = Journal(tmp_path)
    journal.metrics({"env_steps": 5, "loss": 0.5, "name": "text", "broken": math.nan})
    journal.metrics({"env_steps": 6, "loss": 0.25})
    folder = str(tmp_path / "tensorboard")
    assert told == [(folder, 5), ("loss", 0.5, 5), ("loss", 0.25, 6)]


def test_without_a_terminal_a_run_is_a_few_plain_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # some places that only keep a file set it
    clock = Clock()
    with Progress("cartpole [swingup]", steps=1000, minutes=None, clock=clock) as progress:
        for second in range(31):
            clock.now = float(second)
            progress.update({"env_steps": 10 * second, "train_return": second, "loss/kl": 0.5})
        progress.event("checkpoint [bold]300")
        progress.done("score 801")
    assert capsys.readouterr().out.splitlines() == [
        "cartpole [swingup]",
        "env steps 0 / 1,000  training 0  losses kl 0.5  time 0:00",
        "env steps 100 / 1,000  training 10  losses kl 0.5  time 0:10, 1:30 left",
        "env steps 200 / 1,000  training 20  losses kl 0.5  time 0:20, 1:20 left",
        "env steps 300 / 1,000  training 30  losses kl 0.5  time 0:30, 1:10 left",
        "0:30  checkpoint [bold]300",
        "0:30  score 801",
    ]


def test_plain_lines_need_no_more_than_ascii(capsys):
    with Progress("toy", steps=None, minutes=1.0, clock=Clock()) as progress:
        progress.update({"env_steps": 5, "train_return": 1.0, "score": 3.0, "plan_ms": 12.34})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_terminal_gets_one_table_and_lasting_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Console(file=file, force_terminal=True, width=80, height=20)
    clock = Clock()
    with Progress("toy", steps=1000, minutes=None, screen=screen, clock=clock) as progress:
        progress.update({"env_steps": 100, "score": 1.0, "wall_clock_s": 0.0})
        clock.now = 10.0
        progress.update({"env_steps": 200, "score": 2.0, "updates_per_s": 33.33})
        progress.event("checkpoint [x]")
        progress.done("finished")
    out = file.getvalue()
    assert "0:10  checkpoint [x]" in out
    assert out.rstrip().endswith("finished")
    last_table = out[out.rindex("env steps") :]
    assert "200 / 1,000" in last_table
    assert "2  ▁█" in last_table
    assert "33.3" in last_table
    assert "0:10, 1:20 left" in last_table


def test_an_error_leaves_the_terminal_as_it_was(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Console(file=file, force_terminal=True)

    def fail() -> None:
        with Progress("toy", steps=None, minutes=None, screen=screen) as progress:
            progress.update({"env_steps": 1})
            raise KeyError("the loop")

    with pytest.raises(KeyError):
        fail()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1  # cursor


def test_time_goes_on_from_an_earlier_sitting(capsys):
    clock = Clock()
    with Progress("toy", steps=2000, minutes=2.0, clock=clock) as progress:
        progress.update({"env_steps": 1000, "wall_clock_s": 60.0})
        clock.now = 10.0
        progress.update({"env_steps": 1100, "wall_clock_s": 70.0})
    last = capsys.readouterr().out.splitlines()[-1]
    assert "time 1:10, 0:50 left" in last  # the minutes end first: 900 steps take 90 seconds


def test_a_sparkline_goes_from_the_lowest_to_the_highest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, math.nan, 4]) == "█ ▁"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([]) == sparkline([math.nan]) == ""
