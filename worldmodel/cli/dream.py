"""``worldmodel dream``: a page on which a person acts in the imagination of a model."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from worldmodel import run_folder
from worldmodel.checks import require
from worldmodel.cli.arguments import parse
from worldmodel.cli.process_setup import one_thread
from worldmodel.cli.requirements import require_writable, version_explained
from worldmodel.local_page import PORT

if TYPE_CHECKING:  # it imports torch, and mistakes are answered without it
    from worldmodel.agent import Agent
    from worldmodel.dream import Dream


def command(typed: list[str]) -> int:
    """Act in the imagination of a run's model: a page on this computer, until Ctrl-C.

    The model sees a few images of a held-out episode. Then it imagines what your actions do; no
    simulator runs. Without RUN, the model is the trained one of the package. With --html the page
    becomes one file, which holds the model and dreams in any browser, without network and Python.

    Example:
        worldmodel dream runs/default-cartpole_swingup-0 --html dream.html
    """
    return parse("dream", command, _dream, typed)


def _dream(
    run: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(metavar="RUN", help="its folder; default: the agent of the package"),
    ] = None,
    /,
    *,
    port: Annotated[int, tyro.conf.arg(metavar="N", help="of 127.0.0.1; 0: a free one")] = PORT,
    no_browser: Annotated[bool, tyro.conf.arg(help="only print the address")] = False,
    html: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="write this file instead, to be sent")
    ] = None,
) -> int:
    if run is not None:
        run_folder.require_run(run)
    if html is not None:
        require(html.suffix == ".html", f"html: expected a name like dream.html, got {html}")
        require(not html.is_dir(), f"html: {html} is a folder")
        require_writable(html.parent, "html")

    from worldmodel import demo  # these import torch, and mistakes are answered before
    from worldmodel.analysis.starts import read_starts
    from worldmodel.dream import Dream

    agent, task = _load(run)
    dream = Dream(agent, read_starts(agent, run or demo.WEIGHTS.parent))
    if html is None:
        _serve(dream, task, port, opens_browser=not no_browser and _has_screen())
    else:
        _write(dream, task, html)
    return 0


def _write(dream: Dream, task: str, html: Path) -> None:
    from worldmodel.dream.one_file import write_html

    html.parent.mkdir(parents=True, exist_ok=True)
    write_html(dream, task, html)
    print(f"{html}: {html.stat().st_size / 1e6:.1f} MB; it dreams in a browser, alone")


def _serve(dream: Dream, task: str, port: int, *, opens_browser: bool) -> None:
    from worldmodel.dream.page import DreamServer

    with (
        contextlib.suppress(KeyboardInterrupt),
        one_thread(),
        DreamServer(dream, task, port) as server,
    ):
        print(f"{server.address} dreams of {task}; Ctrl-C ends this", flush=True)
        if opens_browser:
            webbrowser.open(server.address)
        threading.Event().wait()


def _load(run: Path | None) -> tuple[Agent, str]:
    """The agent, and the name of its task."""
    from worldmodel import demo, model_file

    if run is None:
        packed = model_file.read(demo.WEIGHTS)
        return packed.agent, packed.config.task
    with version_explained(run):
        return run_folder.load(run), run_folder.read_run(run).task


def _has_screen() -> bool:
    """Without one, a browser of the terminal would take the place of this command's output."""
    is_linux = sys.platform.startswith("linux")
    return not is_linux or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
