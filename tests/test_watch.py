"""The page of ``watch``, requested over HTTP."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TINY
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main
from worldmodel.config import Config
from worldmodel.local_page import HOST
from worldmodel.log import THUMBNAIL, Journal
from worldmodel.report import visualize_run, write_page
from worldmodel.run_folder import load
from worldmodel.watch import Watch, in_another_process, newest_checkpoint


class Drawer:
    """Draws the number of its calls, or fails if a test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.folders: list[Path] = []

    def __call__(self, folder: Path) -> Path:
        self.folders.append(folder)
        if self.error is not None:
            (folder / "report.html").write_text("half a page")
            raise self.error
        self.count += 1
        (folder / "report.html").write_text(f"report {self.count}")
        return folder / "report.html"


@contextmanager
def watching(run: Path, draw: Callable[[Path], Path]) -> Iterator[tuple[Watch, Any]]:
    with Watch(run, 0, draw) as watch:
        port = int(watch.address.rpartition(":")[2])

        def ask(path: str, host: str = f"{HOST}:1") -> tuple[int, str]:
            connection = http.client.HTTPConnection(HOST, port, timeout=20)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            said = answer.status, answer.read().decode(errors="replace")
            connection.close()
            return said

        yield watch, ask


def save(run: Path, step: int) -> None:
    (run / "checkpoints" / f"{step:09d}").mkdir(parents=True)


def test_a_run_without_a_checkpoint_has_a_page_that_says_so(tmp_path: Path) -> None:
    draw = Drawer()
    with watching(tmp_path, draw) as (watch, ask):
        watch.look()
        assert ask("/")[0] == 200
        assert "No report yet" in ask("/report.html")[1]
        now = json.loads(ask("/now")[1])
        assert now["drawn"] == 0
        assert now["state"].startswith("no checkpoint yet")
        assert now["where"] == "nothing was learned yet"
    assert draw.count == 0


def test_a_report_is_drawn_once_for_each_checkpoint(tmp_path: Path) -> None:
    draw = Drawer()
    with watching(tmp_path, draw) as (watch, ask):
        save(tmp_path, 9)
        (tmp_path / "checkpoints" / ".writing-000000010").mkdir()
        for _ in range(3):
            watch.look()
            assert ask("/report.html") == (200, "report 1")
        save(tmp_path, 10)
        watch.look()
        assert ask("/report.html") == (200, "report 2")
        assert json.loads(ask("/now")[1])["drawn"] == 2
    assert newest_checkpoint(tmp_path) == "000000010"


def keep_report(run: Path, age_s: float) -> None:
    (run / "report").mkdir()
    page = run / "report" / "report.html"
    page.write_text("the run's own")
    os.utime(page, (time.time() - age_s,) * 2)


def test_the_report_of_a_run_that_has_ended_is_served_at_once_and_not_drawn_again(
    tmp_path: Path,
) -> None:
    draw = Drawer()
    save(tmp_path, 9)
    keep_report(tmp_path, age_s=-1)
    with watching(tmp_path, draw) as (watch, ask):
        assert ask("/report.html") == (200, "the run's own")
        assert json.loads(ask("/now")[1])["state"].startswith("the run's own report, written on 20")
        watch.look()
        assert draw.count == 0
        save(tmp_path, 10)
        watch.look()
        assert ask("/report.html") == (200, "report 1")


def test_a_report_older_than_the_checkpoint_is_served_until_a_new_one_is_drawn(
    tmp_path: Path,
) -> None:
    draw = Drawer()
    save(tmp_path, 9)
    keep_report(tmp_path, age_s=60)
    with watching(tmp_path, draw) as (watch, ask):
        assert ask("/report.html") == (200, "the run's own")
        watch.look()
        assert ask("/report.html") == (200, "report 1")


def test_while_a_report_is_drawn_the_page_says_how_long_the_last_one_took(tmp_path: Path) -> None:
    save(tmp_path, 9)
    keep_report(tmp_path, age_s=60)
    page = write_page("", "", [], [], seconds=41.2)
    (tmp_path / "report" / "report.html").write_text(page)
    os.utime(tmp_path / "report" / "report.html", (1, 1))
    states = []

    def draw(folder: Path) -> Path:
        states.append(json.loads(ask("/now")[1])["state"])
        assert ask("/report.html") == (200, page)  # there is something to read meanwhile
        (folder / "page").write_text("new")
        return folder / "page"

    with watching(tmp_path, draw) as (watch, ask):
        watch.look()
        assert states[0].startswith("drawing the report of checkpoint 000000009, about 42 s, ")
        assert "so far" in states[0]
        assert "so far" not in json.loads(ask("/now")[1])["state"]


def _say_where(folder: Path) -> None:
    (folder / "report.html").write_text(f"drawn by process {os.getpid()}")


def _fail(folder: Path) -> None:
    raise ConfigError("no episode yet")


def _vanish(folder: Path) -> None:
    os._exit(7)


@pytest.mark.slow  # test_cli has a watch that draws
def test_another_process_draws_and_its_errors_come_back(tmp_path: Path) -> None:
    page = in_another_process(_say_where)(tmp_path).read_text()
    assert page.startswith("drawn by process ")
    assert page != f"drawn by process {os.getpid()}"
    with pytest.raises(RuntimeError, match="no episode yet"):
        in_another_process(_fail)(tmp_path)
    with pytest.raises(RuntimeError, match="ended with 7"):
        in_another_process(_vanish)(tmp_path)


def test_the_page_gets_steps_and_score(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metrics({"env_steps": 12000, "wall_clock_s": 300.0})
    journal.evaluation(10000, 250.0, returns=[1.0, 2.0], seeds=[0, 1])
    with watching(tmp_path, Drawer()) as (_, ask):
        where = json.loads(ask("/now")[1])["where"]
        assert where == "12,000 env steps, 5 min, score 1.5 at 10,000"
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"env_steps": 13')  # the run is writing
        assert json.loads(ask("/now")[1])["where"] == where


def test_the_video_of_the_last_evaluation_is_shown_once_it_is_there(tmp_path: Path) -> None:
    with watching(tmp_path, Drawer()) as (_, ask):
        assert json.loads(ask("/now")[1])["video"] == ""
        assert ask("/video.gif")[0] == 404
        (tmp_path / THUMBNAIL).write_bytes(b"GIF89a")
        assert json.loads(ask("/now")[1])["video"] != ""
        assert ask("/video.gif?3") == (200, "GIF89a")


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), RuntimeError("broken"), ConfigError("no episode yet")]
)
def test_a_report_that_cannot_be_drawn_leaves_the_one_before_and_is_tried_again(
    tmp_path: Path, error: Exception
) -> None:
    draw = Drawer()
    with watching(tmp_path, draw) as (watch, ask):
        save(tmp_path, 1)
        watch.look()
        save(tmp_path, 2)
        draw.error = error
        watch.look()
        assert ask("/report.html") == (200, "report 1")
        assert str(error) in json.loads(ask("/now")[1])["state"]
        draw.error = None
        watch.look()
        assert ask("/report.html") == (200, "report 2")


def test_nothing_is_written_into_the_run_and_nothing_is_left(tmp_path: Path) -> None:
    run, draw = tmp_path / "run", Drawer()
    save(run, 1)
    before = sorted(run.rglob("*"))
    with watching(run, draw) as (watch, _):
        watch.look()
        draw.error = KeyboardInterrupt()  # type: ignore[assignment]
        save(tmp_path / "other", 1)
        (run / "checkpoints" / "000000002").mkdir()
        with pytest.raises(KeyboardInterrupt):
            watch.look()
    (run / "checkpoints" / "000000002").rmdir()
    assert sorted(run.rglob("*")) == before
    assert len(draw.folders) == 2
    assert not any(folder.exists() or run in folder.parents for folder in draw.folders)


def test_the_page_answers_while_a_report_is_drawn(tmp_path: Path) -> None:
    save(tmp_path, 7)
    at_work, go_on = threading.Event(), threading.Event()

    def draw(folder: Path) -> Path:
        at_work.set()
        assert go_on.wait(20)
        (folder / "page").write_text("done")
        return folder / "page"

    with watching(tmp_path, draw) as (watch, ask):
        drawing = threading.Thread(target=watch.look)
        drawing.start()
        assert at_work.wait(20)
        state = json.loads(ask("/now")[1])["state"]
        assert state.startswith("drawing the report of checkpoint 000000007, some minutes, ")
        assert state.endswith(" s so far")
        go_on.set()
        drawing.join()
        assert ask("/report.html") == (200, "done")


def test_other_paths_and_hosts_get_nothing(tmp_path: Path) -> None:
    """Neither another path, nor a page elsewhere whose host name resolves to this computer."""
    with watching(tmp_path, Drawer()) as (watch, ask):
        assert watch.address.startswith("http://127.0.0.1:")
        assert ask("/config.yaml")[0] == 404
        assert ask("/../../etc/passwd")[0] == 404
        assert ask("/now", host="elsewhere.example:80")[0] == 404
        assert ask("/now", host="localhost:80")[0] == 200


def test_a_port_in_use_names_another(tmp_path: Path) -> None:
    with watching(tmp_path, Drawer()) as (watch, _):
        port = int(watch.address.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"port: {port} is in use.*--port {port + 1}"):
            Watch(tmp_path, port, Drawer())
    with pytest.raises(ConfigError, match=r"port: .*0-65535.*--port"):
        Watch(tmp_path, 70000, Drawer())
    Watch(tmp_path, port, Drawer())._server.server_close()  # free again at once


def test_the_command_ends_cleanly_when_interrupted(tmp_path: Path) -> None:
    config = read(Config(), TINY)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"settings": dataclasses.asdict(config)}))
    command = [sys.executable, "-m", "worldmodel", "watch", str(tmp_path), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def listen() -> None:
        """A shell's background jobs, and so their tests, are born deaf to it."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=listen,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_command_says_in_one_sentence_that_a_port_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read(Config(), TINY)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"settings": dataclasses.asdict(config)}))
    with watching(tmp_path, Drawer()) as (watch, _):
        port = int(watch.address.rpartition(":")[2])
        assert main(["watch", str(tmp_path), "--port", str(port)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"port: {port} is in use" in sentence
    assert f"--port {port + 1}" in sentence


@pytest.mark.slow
def test_a_run_that_trains_is_followed_and_only_complete_reports_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader requests everything all the time, until the last report is drawn."""
    monkeypatch.setattr("worldmodel.watch.REST", 0.0)
    give_up = time.monotonic() + 1200
    run, settings = tmp_path / "run", tmp_path / "tiny.yaml"
    loop = {**TINY["loop"], "evaluate_every": 100}  # type: ignore[dict-item]
    env = {"image_size": 16, "action_repeat": 8}  # short episodes
    settings.write_text(yaml.safe_dump({**TINY, "env": env, "loop": loop}))
    command = [sys.executable, "-m", "worldmodel", "train", str(settings)]
    command += ["--run", str(run), "--steps", "320"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    while not (run / "config.yaml").exists():
        assert training.poll() is None
        time.sleep(0.1)

    def draw(folder: Path) -> Path:
        visualize_run(load(run), run, folder)
        return folder / "report.html"

    states, reports, videos = [], set(), set()
    with watching(run, draw) as (watch, ask):
        is_over = threading.Event()
        follower = threading.Thread(target=watch.follow, args=(is_over.is_set,))
        follower.start()
        try:
            last = ""
            while (
                training.poll() is None or not last or f"checkpoint {last}, drawn" not in states[-1]
            ):
                assert time.monotonic() < give_up, states[-1]
                states.append(json.loads(ask("/now")[1])["state"])
                reports.add(ask("/report.html"))
                videos.add(ask("/video.gif"))
                last = newest_checkpoint(run) or ""
                time.sleep(0.05)
        finally:
            is_over.set()
            follower.join()
            training.kill()
        where = json.loads(ask("/now")[1])["where"]
    assert training.returncode == 0
    assert len(reports) >= 2  # that of nothing, and the last
    for status, report in reports:
        assert status == 200
        assert "no report yet" in report or report.endswith("</html>\n")
    assert {status for status, _ in videos} == {404, 200}
    assert all(video.startswith("GIF89a") for status, video in videos if status == 200)
    assert all(
        video.endswith(";") for status, video in videos if status == 200
    )  # a GIF's last byte
    assert "score" in where
