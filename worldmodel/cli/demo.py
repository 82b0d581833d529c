"""``worldmodel demo``: a trained agent of the package plays, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.checks import require
from worldmodel.cli.arguments import parse
from worldmodel.cli.process_setup import one_thread
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import say, show_episode


def command(typed: list[str]) -> int:
    """Let a small trained agent of the package play: one to two minutes of two cores.

    It writes a video and a report, and explains what to look at and how the agent was trained.

    Example:
        worldmodel demo --out demo
    """
    return parse("demo", command, _show_demo, typed)


def _show_demo(
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="for video and report")] = Path("demo"),
    episodes: Annotated[int, tyro.conf.arg(metavar="N", help="to play")] = 3,
    seed: Annotated[int, tyro.conf.arg(metavar="S", help="episode i starts from seed S + i")] = 0,
) -> int:
    require(episodes >= 1, f"episodes: expected 1 or more, got {episodes}")
    require(seed >= 0, f"seed: expected 0 or more, got {seed}")
    require_writable(out, "out")
    say("a small trained agent of the package is loaded")

    from worldmodel import demo  # imports torch, and mistakes are answered before

    demo.require_free(out)
    print(demo.introduce(), flush=True)
    with one_thread():
        shown = demo.show(out, episodes, seed, show_episode, say=say)
    for line in (shown, *shown.notes):
        print(line)
    return 0
