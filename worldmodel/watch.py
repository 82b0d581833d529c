"""The report of a run that grows, as a page on this computer that follows it.

The report is drawn again, in a folder of its own, whenever there is a newer checkpoint; nothing is
ever written into the run. The page asks every few seconds whether there is a newer one, and shows
it where the reader was.

Another process draws. Drawing holds threads and an ffmpeg that no interrupt reaches; a process is
killed at once, whatever it does.
"""

from __future__ import annotations

import contextlib
import errno
import html
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from worldmodel.checks import ConfigError
from worldmodel.log import EVALUATIONS, METRICS, THUMBNAIL, read_evaluations, read_metrics

HOST = "127.0.0.1"  # this computer alone: a run is nobody else's business
PORT = 8420
LOOK_S = 2.0  # between two looks at the run
ANSWER_S = 0.1  # the server asks this often whether it shall end
REST = 3.0  # times as long as it was drawn, a report stands: training beside it needs the cores

Draw = Callable[[Path], Path]
"""Writes the run's report into a folder; the path of its page. Raises where there is none yet."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
html, body {{ height: 100%; margin: 0; }}
body {{ display: flex; flex-direction: column; font: 15px/1.5 system-ui, sans-serif; }}
header {{ display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: center;
  padding: .5rem 1rem; border-bottom: 1px solid #8884; }}
header img {{ height: 3rem; max-width: 60vw; object-fit: cover; object-position: left;
  image-rendering: pixelated; border-radius: .3rem; }}
#state {{ opacity: .7; }}
iframe {{ flex: 1; border: 0; width: 100%; }}
</style>
</head>
<body>
<header><img id="film" alt="" hidden><b>{title}</b><span id="where"></span><span id="state"></span>
</header>
<iframe id="report" title="the report"></iframe>
<noscript>This page needs JavaScript to follow the run; <a href="report.html">the report</a> does
not.</noscript>
<script>
const part = name => document.getElementById(name);
let drawn = -1, filmed = "";
function show(now) {{
  part("where").textContent = now.where;
  part("state").textContent = now.state;
  if (now.film !== filmed) {{
    filmed = now.film;
    part("film").hidden = !filmed;
    if (filmed) part("film").src = "film.gif?" + encodeURIComponent(filmed);
  }}
  if (now.drawn === drawn) return;
  drawn = now.drawn;
  const frame = part("report"), top = frame.contentWindow.scrollY;
  frame.addEventListener("load", () => frame.contentWindow.scrollTo(0, top), {{ once: true }});
  frame.src = "report.html?" + drawn;
}}
async function look() {{
  try {{
    show(await (await fetch("now")).json());
  }} catch (error) {{
    part("state").textContent = "worldmodel watch has ended; this is the last report it drew";
  }}
  setTimeout(look, 2000);
}}
look();
</script>
</body>
</html>
"""

EMPTY = """\
<!doctype html>
<meta charset="utf-8">
<title>no report yet</title>
<style>:root { color-scheme: light dark } body { font: 17px system-ui, sans-serif; margin: 3rem }
</style>
<p>No report yet: the run's first checkpoint brings one.</p>
"""


@dataclass(frozen=True)
class Now:
    """What the page is told, and shows above the report."""

    where: str = ""
    state: str = "looking at the run"
    drawn: int = 0  # reports so far
    film: str = ""  # changes with the film of the last evaluation; empty without one


class Watch:
    """A server on this computer, and the drawing for it, which the caller's thread waits for::

    with Watch(run, port, in_another_process(draw)) as watch:
        print(watch.address)
        watch.follow()  # until it is interrupted

    A report that the run already has is served from the start, and drawn again only if there is a
    newer checkpoint.
    """

    def __init__(self, run: Path, port: int, draw: Draw) -> None:
        self._run = run
        self._draw = draw
        self._seen = ""  # the checkpoint that the report is of
        self._took_s: float | None = None  # to draw the last report
        self._report = EMPTY.encode()
        self.now = Now()
        self._take_what_is_there()
        try:
            self._server = _Server((HOST, port), self._handler())
        except (OSError, OverflowError) as error:
            reason = str(error)
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                reason = f"{port} is in use, perhaps by another watch"
            raise ConfigError(f"port: {reason}; choose another: --port {_other(port)}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(ANSWER_S,), daemon=True
        )

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def follow(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Look, and draw, again and again."""
        while not is_over():
            begun = time.monotonic()
            self.look()
            time.sleep(LOOK_S + REST * (time.monotonic() - begun))

    def look(self) -> None:
        """Once; draws where there is something new."""
        newest = newest_checkpoint(self._run)
        if newest is None:
            self.now = replace(self.now, state="no checkpoint yet; the first one brings a report")
        if newest in (None, self._seen):
            return
        about = f", about {self._took_s:.0f} s" if self._took_s is not None else ""
        self.now = replace(self.now, state=f"drawing the report of checkpoint {newest}{about}")
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="worldmodel-watch-") as folder:
                self._report = self._draw(Path(folder)).read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            # a run at work replaces its files while they are read; the next look finds them whole
            self.now = replace(self.now, state=f"no report of checkpoint {newest} yet: {error}")
            return
        self._seen, self._took_s = newest, time.monotonic() - begun
        state = f"report of checkpoint {newest}, drawn at {time.strftime('%H:%M:%S')}"
        self.now = replace(self.now, state=state, drawn=self.now.drawn + 1)

    def _take_what_is_there(self) -> None:
        """The run's own report; it is of the newest checkpoint if it was written after that."""
        newest = newest_checkpoint(self._run)
        try:
            page = self._run / "report" / "report.html"
            written = page.stat().st_mtime
            self._report = page.read_bytes()
            saved = (self._run / "checkpoints" / (newest or "")).stat().st_mtime
        except OSError:  # no report yet, or a run at work has just deleted a checkpoint
            return
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
        self.now = replace(self.now, state=f"the run's own report, written on {at}")
        if newest is not None and written >= saved:
            self._seen = newest

    def _told(self) -> Now:
        """With what the run says at this moment, also while a report is being drawn."""
        return replace(self.now, where=self._where(), film=self._film())

    def _where(self) -> str:
        """Steps, time and score, as far as the run has told."""
        words = []
        with contextlib.suppress(OSError, LookupError, ValueError):  # nothing is written yet
            rows = read_metrics(self._run / METRICS)
            if rows:
                last = rows[-1]
                words.append(
                    f"{last['env_steps']:,} env steps, {last['wall_clock_s'] / 60:.0f} min"
                )
        with contextlib.suppress(OSError, ValueError):
            scores = read_evaluations(self._run / EVALUATIONS)
            if scores:
                returns = scores[-1].returns
                words.append(f"score {sum(returns) / len(returns):.1f} at {scores[-1].env_steps:,}")
        return ", ".join(words) or "nothing was learned yet"

    def _film(self) -> str:
        try:
            return str((self._run / THUMBNAIL).stat().st_mtime_ns)
        except OSError:
            return ""

    def _answer(self, path: str) -> tuple[str, bytes] | None:
        """Kind and content."""
        match path:
            case "/" | "/index.html":
                title = html.escape(f"worldmodel watch {self._run}")
                return "text/html; charset=utf-8", PAGE.format(title=title).encode()
            case "/now":
                return "application/json", json.dumps(vars(self._told())).encode()
            case "/report.html":
                return "text/html; charset=utf-8", self._report
            case "/film.gif":
                with contextlib.suppress(OSError):
                    return "image/gif", (self._run / THUMBNAIL).read_bytes()
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        watch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # a page elsewhere that rebinds its name to this address asks for that name
                host = self.headers.get("Host", "").rpartition(":")[0]
                answer = watch._answer(self.path.partition("?")[0])
                if host not in (HOST, "localhost") or answer is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                kind, content = answer
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the reader has left
                    self.wfile.write(content)

            def log_message(self, format: str, *values: object) -> None:
                """The screen is for the run."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # an open page does not keep it from ending
    allow_reuse_address = True


def in_another_process(draw: Callable[[Path], None]) -> Draw:
    """``draw``, a function of a module, writes report.html into a folder; its errors come back.

    Where the caller is interrupted, the process and all that it started are killed.
    """

    def draw_there(folder: Path) -> Path:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_draw, args=(draw, folder, there), daemon=True)
        try:
            _start_deaf(process)
            there.close()  # so that its end is noticed
            try:
                complaint: str = here.recv()
            except EOFError:
                process.join()
                complaint = f"the process that drew it ended with {process.exitcode}"
        finally:
            if process.is_alive() and process.pid is not None:
                _kill(process.pid)
                process.join()
            here.close()
        if complaint:
            raise RuntimeError(complaint)
        return folder / "report.html"

    return draw_there


def _start_deaf(process: BaseProcess) -> None:
    """It begins with SIGINT blocked: Ctrl-C in a terminal is for the process that waits."""
    resource_tracker.ensure_running()  # where it starts, it lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _draw(draw: Callable[[Path], None], folder: Path, there: Connection) -> None:
    try:
        draw(folder)
    except (OSError, RuntimeError, ValueError) as error:
        there.send(str(error) or type(error).__name__)
    else:
        there.send("")


def _kill(pid: int) -> None:
    """A process and its descendants; without /proc the process alone, whose pipes end ffmpeg."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it starts no other meanwhile
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in children.read_text().split():
                    _kill(int(child))
        os.kill(pid, signal.SIGKILL)


def newest_checkpoint(run: Path) -> str | None:
    """Its name: the step."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (run / "checkpoints").iterdir() if path.name.isdecimal()]
        return max(names, key=int, default=None)
    return None


def _other(port: int) -> int:
    return port + 1 if 1 <= port < 65535 else PORT
