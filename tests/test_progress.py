import io
import math
import os
from pathlib import Path

import pytest
from rich.console import Console

from worldmodel.loop.reporter import SHOWN
from worldmodel.machine import resident_bytes
from worldmodel.progress import Curve, Progress, sparkline
from worldmodel.progress.curve import POINTS


class Clock:
    """A clock that a test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


LOSSES = {
    f"loss/{name}": 1.0
    for name in ("kl_dynamics", "kl_representation", "reward", "discount", "image", "policy")
}


def drawn(progress: Progress, width: int, height: int = 40) -> list[str]:
    """The present screen, without the codes that move the cursor."""
    screen = progress._shown
    screen._console.width, screen._console.height = width, height
    page = Console(file=io.StringIO(), width=width)
    page.print(screen._now())
    return page.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_without_a_terminal_a_run_is_a_few_plain_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # some places that only keep a file set it
    clock = Clock()
    with Progress("cartpole [swingup]", 1000, None, SHOWN, clock=clock) as progress:
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
    with Progress("toy", None, 1.0, SHOWN, clock=Clock()) as progress:
        progress.update({"env_steps": 5, "train_return": 1.0, "score": 3.0, "plan_ms": 12.34})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_terminal_gets_one_screen_and_lasting_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Console(file=file, force_terminal=True, width=80, height=20)
    clock = Clock()
    with Progress("toy", 1000, None, SHOWN, screen=screen, clock=clock) as progress:
        progress.update({"env_steps": 100, "score": 1.0, "wall_clock_s": 0.0})
        clock.now = 10.0
        progress.update({"env_steps": 200, "score": 2.0, "updates_per_s": 33.33})
        progress.update({"checkpoint_env_steps": 200})
        clock.now = 15.0
        progress.event("checkpoint [x]")
        progress.done("finished")
    out = file.getvalue()
    assert "0:15  checkpoint [x]" in out
    assert out.rstrip().endswith("finished")
    last = out[out.rindex("200 / 1,000") :]
    assert "2          ▁█" in last
    assert "33.3 updates/s" in last
    assert "0:15, 2:00 left" in last
    assert "0:05 ago, 200 env steps" in last


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120, 200])
def test_no_line_of_the_screen_is_wider_than_the_terminal(monkeypatch, width):
    """A wider line would wrap, and all above it would be drawn again below."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Console(file=Terminal(), force_terminal=True, width=width, height=40)
    progress = Progress("a title " * 20, 1000, 1.0, SHOWN, screen=screen, clock=Clock())
    for step in range(300):
        progress.update({"env_steps": step, "score": step, "train_return": step, **LOSSES})
        progress.update({"updates_per_s": 5.5, "frames_per_s": 29.25, "plan_ms": 31.123})
    lines = drawn(progress, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 10 + len(LOSSES)


def test_a_wide_terminal_puts_losses_side_by_side(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Console(file=Terminal(), force_terminal=True, width=80)
    progress = Progress("toy", None, None, SHOWN, screen=screen, clock=Clock())
    progress.update(LOSSES)
    rows = [sum("1  " in line for line in drawn(progress, width)) for width in (50, 80, 120)]
    assert rows == [6, 3, 2]


def test_a_terminal_that_became_narrower_is_cleared_and_keeps_its_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Console(file=file, force_terminal=True, width=80, height=20)
    with Progress("toy", None, None, SHOWN, screen=screen, clock=Clock()) as progress:
        progress.event("a line that stays")
        screen.width = 120
        progress.update({"env_steps": 1})
        assert "\x1b[2J" not in file.getvalue()
        screen.width = 60
        progress.update({"env_steps": 2})
        after = file.getvalue()
        assert after.count("\x1b[2J") == 1
        assert "a line that stays" in after[after.index("\x1b[2J") :]


def test_an_error_leaves_the_terminal_as_it_was(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Console(file=file, force_terminal=True)

    def fail() -> None:
        with Progress("toy", None, None, SHOWN, screen=screen) as progress:
            progress.update({"env_steps": 1})
            raise KeyError("the loop")

    with pytest.raises(KeyError):
        fail()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1  # cursor


def test_time_continues_from_an_earlier_call(capsys):
    clock = Clock()
    with Progress("toy", 2000, 2.0, SHOWN, clock=clock) as progress:
        progress.update({"env_steps": 1000, "wall_clock_s": 60.0})
        clock.now = 10.0
        progress.update({"env_steps": 1100, "wall_clock_s": 70.0})
    last = capsys.readouterr().out.splitlines()[-1]
    assert "time 1:10, 0:50 left" in last  # the minutes end first: 900 steps take 90 seconds


def test_a_curve_covers_the_whole_run_in_bounded_memory():
    curve = Curve()
    count = 64 * POINTS
    for value in range(count):
        curve.add(value)
    points = curve.points(8)
    assert len(points) == 8
    assert points == pytest.approx([count * (2 * part + 1) / 16 for part in range(8)], rel=0.02)
    assert len(curve.points(10**6)) <= 2 * POINTS


def test_a_short_curve_is_its_values():
    curve = Curve()
    for value in (3.0, 1.0, 2.0):
        curve.add(value)
    assert curve.points(8) == curve.points(3) == [3.0, 1.0, 2.0]
    assert Curve().points(8) == []


def test_a_sparkline_goes_from_the_lowest_to_the_highest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, math.nan, 4]) == "█ ▁"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([]) == sparkline([math.nan]) == ""


def test_memory_is_that_of_a_process_and_of_what_it_started(tmp_path: Path, monkeypatch):
    def process(number: int, kilobytes: int, children: str) -> Path:
        folder = tmp_path / str(number)
        (folder / "task" / str(number)).mkdir(parents=True)
        (folder / "status").write_text(f"Name:\tx\nVmRSS:\t{kilobytes} kB\nThreads:\t1\n")
        (folder / "task" / str(number) / "children").write_text(children)
        return folder

    first = process(1, 100, "2 3 ")  # 3 has ended meanwhile
    process(2, 10, "")
    assert resident_bytes(first) == 110 * 1024
    assert resident_bytes(tmp_path / "9") == 0
    if Path("/proc/self/status").exists():
        assert resident_bytes() > 10**7
        assert resident_bytes(Path(f"/proc/{os.getpid()}")) > 10**7
