"""Watching a run: its report, served as a page on this computer and updated with the run.

The report is drawn into a temporary folder whenever the run has a newer checkpoint; nothing is
written into the run. The page asks every few seconds for a newer report, and keeps the reader's
scroll position.

The report is drawn in another process, because drawing uses threads and ffmpeg, which cannot be
interrupted; a process can be killed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from worldmodel import processes
from worldmodel.local_page import Content, LocalPage
from worldmodel.log import EVALUATIONS, METRICS, THUMBNAIL, read_evaluations, read_metrics
from worldmodel.report.page import POLICY, drawn_in
from worldmodel.report.templates import render

LOOK_S = 2.0  # between two checks of the run
REST = 3.0  # after drawing, wait so many times as long as it took: training needs the cores
HTML = "text/html; charset=utf-8"

Draw = Callable[[Path], Path]
"""Writes the run's report into a folder and returns the path of its page; raises if it cannot."""


@dataclass(frozen=True)
class Now:
    """The lines that the page shows above the report."""

    where: str = ""
    state: str = "looking at the run"
    drawn: int = 0  # reports so far
    video: str = ""  # changes with the video of the last evaluation; empty without one


class Watch(LocalPage):
    """Serves the report on this computer; ``follow`` draws it in the caller's thread::

    with Watch(run, port, in_another_process(draw)) as watch:
        print(watch.address)
        watch.follow()  # until it is interrupted

    A report that the run already has is served from the start, and drawn again only if there is a
    newer checkpoint.
    """

    def __init__(self, run: Path, port: int, draw: Draw) -> None:
        self._run = run
        self._draw = draw
        self._drawn_of = ""  # the checkpoint of the present report
        self._took_s: float | None = None  # seconds that drawing the last report took
        self._drawing_since: float | None = None
        self._report = render("no_report.html").encode()
        self.now = Now()
        self._take_the_runs_report()
        super().__init__(port, self._answer)

    def follow(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Check the run again and again, and draw a report of each newer checkpoint."""
        while not is_over():
            begun = time.monotonic()
            self.look()
            time.sleep(LOOK_S + REST * (time.monotonic() - begun))

    def look(self) -> None:
        """Check the run once; draw a report if there is a newer checkpoint."""
        newest = newest_checkpoint(self._run)
        if newest is None:
            self.now = replace(self.now, state="no checkpoint yet; the first one brings a report")
        if newest in (None, self._drawn_of):
            return
        about = "some minutes" if self._took_s is None else f"about {self._took_s:.0f} s"
        state = f"drawing the report of checkpoint {newest}, {about}"
        self.now, begun = replace(self.now, state=state), time.monotonic()
        self._drawing_since = begun
        try:
            with tempfile.TemporaryDirectory(prefix="worldmodel-watch-") as folder:
                self._report = self._draw(Path(folder)).read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            # training may replace files while they are read; the next check finds them complete
            self.now = replace(self.now, state=f"no report of checkpoint {newest} yet: {error}")
            return
        finally:
            self._drawing_since = None
        self._drawn_of, self._took_s = newest, time.monotonic() - begun
        state = f"report of checkpoint {newest}, drawn at {time.strftime('%H:%M:%S')}"
        self.now = replace(self.now, state=state, drawn=self.now.drawn + 1)

    def _take_the_runs_report(self) -> None:
        """Serve the run's own report. It needs no drawing if it is newer than every checkpoint."""
        newest = newest_checkpoint(self._run)
        try:
            page = self._run / "report" / "report.html"
            if not page.is_file():
                return
            written = page.stat().st_mtime
            self._report = page.read_bytes()
            self._took_s = drawn_in(self._report)
            saved = (self._run / "checkpoints" / (newest or "")).stat().st_mtime
        except OSError:  # no report yet, or training has just deleted a checkpoint
            return
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
        self.now = replace(self.now, state=f"the run's own report, written on {at}")
        if newest is not None and written >= saved:
            self._drawn_of = newest

    def _now_with_progress(self) -> Now:
        """``now`` with the present steps and score of the run, also while a report is drawn."""
        state, since = self.now.state, self._drawing_since
        if since is not None:
            state += f", {time.monotonic() - since:.0f} s so far"
        return replace(self.now, state=state, where=self._where(), video=self._video())

    def _where(self) -> str:
        """The steps, time and score that the run has written so far."""
        words = []
        with contextlib.suppress(OSError, LookupError, ValueError):  # nothing is written yet
            lines = read_metrics(self._run / METRICS)
            if lines:
                last = lines[-1]
                words.append(
                    f"{last['env_steps']:,} env steps, {last['wall_clock_s'] / 60:.0f} min"
                )
        with contextlib.suppress(OSError, ValueError):
            scores = read_evaluations(self._run / EVALUATIONS)
            if scores:
                returns = scores[-1].returns
                words.append(f"score {sum(returns) / len(returns):.1f} at {scores[-1].env_steps:,}")
        return ", ".join(words) or "nothing was learned yet"

    def _video(self) -> str:
        try:
            return str((self._run / THUMBNAIL).stat().st_mtime_ns)
        except OSError:
            return ""

    def _answer(self, path: str) -> Content | None:
        match path:
            case "/" | "/index.html":
                page = render("watch.html", title=f"worldmodel watch {self._run}")
                return Content(HTML, page.encode())
            case "/now":
                return Content(
                    "application/json", json.dumps(vars(self._now_with_progress())).encode()
                )
            case "/report.html":  # it may be a received run's own, so it gets a policy
                return Content(HTML, self._report, POLICY)
            case "/video.gif":
                with contextlib.suppress(OSError):
                    return Content("image/gif", (self._run / THUMBNAIL).read_bytes())
        return None


def in_another_process(draw: Callable[[Path], None]) -> Draw:
    """Call ``draw``, which writes report.html into a folder, in a process of its own.

    Its errors are raised here. When the caller is interrupted, the process and everything that it
    started are killed.
    """

    def draw_there(folder: Path) -> Path:
        process, connection = processes.start(_draw, draw, folder, name="worldmodel report")
        try:
            complaint: str = connection.recv()
        except EOFError:
            complaint = f"the process that drew it ended with {processes.stop(process, 1.0)}"
        finally:
            if process.is_alive() and process.pid is not None:
                _kill(process.pid)
            processes.stop(process)
            connection.close()
        if complaint:
            raise RuntimeError(complaint)
        return folder / "report.html"

    return draw_there


def _draw(connection: Connection, draw: Callable[[Path], None], folder: Path) -> None:
    try:
        draw(folder)
    except (OSError, RuntimeError, ValueError) as error:
        connection.send(str(error) or type(error).__name__)
    else:
        connection.send("")


def _kill(pid: int) -> None:
    """Kill a process and its children; without /proc only the process, whose pipes end ffmpeg."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it starts no more children
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in children.read_text().split():
                    _kill(int(child))
        os.kill(pid, signal.SIGKILL)


def newest_checkpoint(run: Path) -> str | None:
    """The folder name of the newest checkpoint, which is a number; None if there is none."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (run / "checkpoints").iterdir() if path.name.isdecimal()]
        return max(names, key=int, default=None)
    return None
