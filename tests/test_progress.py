import io
import math
import os
from pathlib import Path

import pytest
from rich.console import Console

from tests.test_losses import make_batch
from worldmodel.assembly import learner_of
from worldmodel.config import Config
from worldmodel.loop.reporter import SHOWN
from worldmodel.machine import resident_bytes
from worldmodel.models import WorldModel
from worldmodel.progress import Curve, Progress, sparkline
from worldmodel.progress.curve import POINTS
from worldmodel.progress.digits import large


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
            progress.phase("random episodes", f"{second}/40", 120.0 - second)
            progress.update({"env_steps": 10 * second, "train_return": second, "loss/kl": 0.5})
        progress.event("checkpoint [bold]300")
        progress.done("score 801")
    assert capsys.readouterr().out.splitlines() == [
        "cartpole [swingup]",
        "0:00, about 2:00 left  random episodes 0/40",
        "0:10, about 1:50 left  random episodes 10/40  90 / 1,000 env steps  training return 9",
        "0:20, about 1:40 left  random episodes 20/40  190 / 1,000 env steps  training return 19",
        "0:30, about 1:30 left  random episodes 30/40  290 / 1,000 env steps  training return 29",
        "0:30  checkpoint [bold]300",
        "0:30  score 801",
    ]


def test_a_new_phase_is_a_line_at_once_and_its_counts_are_not(capsys):
    clock = Clock()
    with Progress("toy", None, None, SHOWN, clock=clock) as progress:
        for episode in range(1, 4):
            progress.phase("random episodes", f"{episode}/3")
        clock.now = 1.0
        for update in range(9):
            progress.phase("learning from them", f"{update}/9")
    assert capsys.readouterr().out.splitlines() == [
        "toy",
        "0:00  random episodes 1/3",
        "0:01  learning from them 0/9",
    ]


def test_no_plain_line_of_numbers_is_wider_than_a_hundred_columns(capsys):
    clock = Clock()
    with Progress("toy", 10_000_000, None, SHOWN, clock=clock) as progress:
        progress.update({"wall_clock_s": 86_400.0, "env_steps": 9_999_999, "score": 123.456})
        clock.now = 20.0
        what = "training:"
        detail = "evaluating 10000 episodes 99%, update 123,456/999,999"
        progress.phase(what, detail, 4000.0)
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"24:00:20, about 1:06:40 left  {what} {detail}"
    assert len(last) <= 100 < len(f"{last}  score 123")


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
    screen = Console(file=file, force_terminal=True, width=80, height=30)
    clock = Clock()
    with Progress("toy", 1000, None, SHOWN, screen=screen, clock=clock) as progress:
        progress.phase("training:", "episode 3 40%")
        progress.update({"env_steps": 100, "train_return": 1.0, "wall_clock_s": 0.0})
        clock.now = 10.0
        progress.update({"env_steps": 200, "train_return": 2.0, "updates_per_s": 33.33})
        progress.update({"checkpoint_env_steps": 200, "checkpoint_wall_clock_s": 10.0})
        progress.phase("training:", "episode 4 40%", 125.0)
        clock.now = 15.0
        progress.event("checkpoint [x]")
        progress.done("finished")
    out = file.getvalue()
    assert "0:15  checkpoint [x]" in out
    assert out.rstrip().endswith("finished")
    last = out[out.rindex("training return") :]
    assert "2          ▁█" in last
    assert "training: episode 4 40%" in last
    assert "200 / 1,000" in last
    assert "33.3 updates/s, " in last
    assert "0:15, about 2:00 left" in last
    assert "at 200 env steps, 0:05 ago" in last


def screen_of(monkeypatch, width: int, steps: int | None = 1000, encoding="utf-8") -> Progress:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    file.encoding = encoding
    screen = Console(file=file, force_terminal=True, width=width, height=40)
    return Progress("toy", steps, None, SHOWN, screen=screen, clock=Clock())


def test_the_score_comes_first_and_in_large_digits(monkeypatch):
    progress = screen_of(monkeypatch, 80)
    progress.update(
        {"score": 80.25, "score_std": 2.0, "score_episodes": 5, "score_env_steps": 4000}
    )
    lines = [line.rstrip() for line in drawn(progress, 80)[:4]]
    assert lines == [
        "toy",
        "                   ┏━┓ ┏━┓   ╺━┓  80.2 ± 2.00",
        "            score  ┣━┫ ┃ ┃   ┏━┛  5 episodes at 4,000 env steps",
        "                   ┗━┛ ┗━┛ ● ┗━╸  ▁",
    ]


def test_a_number_is_three_lines_high():
    assert large("-1.5") == ["     ╻    ┏━╸", "╺━╸  ┃    ┗━┓", "     ╹  ● ╺━┛"]
    assert large("nan") == ["nan"]
    assert large("") == [""]


def test_the_time_left_is_estimated_and_counts_down_between_two_estimates(monkeypatch):
    progress = screen_of(monkeypatch, 80)
    state = progress._state
    assert state.time_text() == "0:00, estimating the time left"
    assert state.share is None
    state.clock.now = 30.0
    progress.phase("learning from them", "1/9", 90.0)
    assert (state.time_text(), state.share) == ("0:30, about 1:30 left", 0.25)
    state.clock.now = 60.0
    assert (state.time_text(), state.share) == ("1:00, about 1:00 left", 0.5)
    assert screen_of(monkeypatch, 80, steps=None)._state.time_text() == "0:00"


@pytest.mark.parametrize("width", [24, 40, 50, 80, 120, 200])
def test_no_line_of_the_screen_is_wider_than_the_terminal(monkeypatch, width):
    """A wider line would wrap, and all above it would be drawn again below."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Console(file=Terminal(), force_terminal=True, width=width, height=40)
    progress = Progress("a title " * 20, 1000, 1.0, SHOWN, screen=screen, clock=Clock())
    for step in range(300):
        progress.phase("training:", "episode 3, update 4/50", 300.0 - step)
        progress.update({"env_steps": step, "score": step, "train_return": step, **LOSSES})
        progress.update({"updates_per_s": 5.5, "frames_per_s": 29.25, "plan_ms": 31.123})
    lines = drawn(progress, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 12 + len(LOSSES)


def test_losses_are_in_groups_that_say_which_way_is_better(monkeypatch):
    progress = screen_of(monkeypatch, 80)
    progress.update({**LOSSES, "loss/imagined_return": 2.0, "loss/of_my_own": 3.0})
    lines = [" ".join(line.split()[:4]) for line in drawn(progress, 80)]
    model, behaviour, other = (
        next(number for number, line in enumerate(lines) if line.startswith(title))
        for title in ("model:", "behaviour:", "other parts:")
    )
    assert lines[model] == "model: ↓ lower is"
    assert lines[model + 1 : behaviour] == [
        "kl_dynamics ↓ latent prediction",
        "kl_representation ↓ latent regularity",
        "reward ↓ reward prediction",
        "discount ↓ end of",
        "image ↓ image reconstruction",
    ]
    assert lines[behaviour + 1 : other] == [
        "imagined_return ↑ return it",
        "policy · policy gradient",
    ]
    assert lines[other + 1] == "of_my_own · 3 ▁"


def test_every_loss_that_is_shipped_has_plain_words(model: WorldModel, tiny: Config):
    losses = learner_of(tiny, model).update(make_batch(3, 5)).metrics
    words = {name: word for group in SHOWN for name, word in group.words.items()}
    assert len(losses) > 9
    assert all(words[f"loss/{name}"] for name in losses)


def test_a_wide_terminal_puts_the_groups_side_by_side_and_a_narrow_one_leaves_words_out(
    monkeypatch,
):
    progress = screen_of(monkeypatch, 80)
    progress.update(LOSSES)
    for width, together, has_words in ((50, False, False), (80, False, True), (130, True, True)):
        lines = drawn(progress, width)
        assert any("model:" in line and "behaviour:" in line for line in lines) == together
        assert any("latent prediction" in line for line in lines) == has_words


def test_a_terminal_that_knows_only_ascii_gets_only_that(monkeypatch):
    progress = screen_of(monkeypatch, 80, encoding="ascii")
    progress.update({**LOSSES, "score": 1.0, "train_return": 2.0, "env_steps": 3})
    assert "\n".join(drawn(progress, 80)).isascii()


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


def test_time_continues_from_an_earlier_call_and_its_numbers_are_remembered(capsys):
    clock = Clock()
    with Progress("toy", 2000, 2.0, SHOWN, clock=clock) as progress:
        for episode in range(3):
            progress.remember(
                {"wall_clock_s": episode, "env_steps": episode, "train_return": episode}
            )
        progress.remember({"score": 4.0})
        assert progress._state.elapsed == 2.0
        assert progress._state.curves["train_return"].points(9) == [0.0, 1.0, 2.0]
        progress.update({"env_steps": 1000, "wall_clock_s": 60.0})
        clock.now = 10.0
        progress.update({"env_steps": 1100, "wall_clock_s": 70.0})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1:10  score 4.00  1,100 / 2,000 env steps  training return 2"


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
