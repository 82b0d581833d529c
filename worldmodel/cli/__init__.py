"""The command ``worldmodel``: it calls the command that was typed, and reports errors.

Each command is one file. A mistake in the arguments prints at most one screen on stderr, before
anything is created, and exits with 2; a run that cannot continue prints one sentence and exits
with 1; an interrupted one exits with 130.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from worldmodel import machine
from worldmodel.checks import ConfigError, nearest
from worldmodel.cli.process_setup import process_setup
from worldmodel.cli.screen import say
from worldmodel.columns import aligned

OVERVIEW = """\
worldmodel: agents that learn a world model from pixels and plan in it

{commands}

Each one explains itself: worldmodel train --help
A first run, 25 minutes: worldmodel train cartpole_swingup --minutes 25
"""

# Each command: its file in this folder, and the first line of its help. The file is imported when
# the command is called. A test compares the line with the docstring there.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": (
        "train",
        "Train an agent: collect, learn, collect again. The same command again resumes.",
    ),
    "eval": ("play", "Play the learned planner of a run, without exploration noise."),
    "pretrain": (
        "pretrain",
        "Learn an encoder from recorded episodes: mae hides patches of images and draws them.",
    ),
    "visualize": (
        "visualize",
        "Show what a run's model sees, predicts and plans: a page, pictures, a video, numbers.",
    ),
    "compare": (
        "compare",
        "Show the learning curves of several runs, their spread over seeds, and published scores.",
    ),
    "export": (
        "export",
        "Write an agent as files that need no torch: ONNX graphs, and a runner for numpy.",
    ),
    "runs": ("runs", "List the runs in a folder: task, steps, score, state, size on disk."),
    "watch": ("watch", "Serve the report of a run on this computer, until Ctrl-C."),
    "demo": (
        "demo",
        "Let a small trained agent of the package play: one to two minutes of two cores.",
    ),
    "dream": (
        "dream",
        "Act in the imagination of a run's model: a page on this computer, until Ctrl-C.",
    ),
    "bench": (
        "bench",
        "Measure how fast this machine trains, plans and draws, next to baselines in the same run.",
    ),
    "tasks": ("tasks", "List every known task, with its action repeat and action size."),
    "doctor": (
        "doctor",
        "Show what works on this machine, and the command that repairs what does not.",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. ``arguments``: by default those of the process."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    machine.keep_memory()
    try:
        with process_setup(quiet=arguments is None):
            return _dispatch(typed)
    except SystemExit as leaving:  # tyro has printed the error, or the help
        return leaving.code if isinstance(leaving.code, int) else 2
    except ConfigError as error:
        say(f"worldmodel: {error}")
        return 2
    except KeyboardInterrupt:
        say("worldmodel: interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RuntimeError, ValueError, OSError) as error:
        if sys.flags.dev_mode:  # python -X dev -m worldmodel ... shows the traceback
            raise
        say(f"worldmodel: {error}")
        return 1


def _dispatch(typed: list[str]) -> int:
    match typed:
        case [] | ["-h" | "--help", *_]:
            print(_overview(), end="")
            return 0
        case ["--version", *_]:
            from importlib.metadata import version  # half the time of the overview

            print(f"worldmodel {version('worldmodel')}")
            return 0
        case [name, *rest] if name in COMMANDS:
            return _call(name, rest)
        case [name, *_]:
            what = "option" if name.startswith("-") else "command"
            raise ConfigError(f"no {what} {name}{nearest(name, list(COMMANDS))}")
    raise AssertionError(typed)


def _overview() -> str:
    lines = [(name, line) for name, (_, line) in COMMANDS.items()]
    return OVERVIEW.format(commands=aligned(lines, indent="  "))


def _call(name: str, words: list[str]) -> int:
    """Import a command's file and call its function ``command``."""
    file, _ = COMMANDS[name]
    code: int = importlib.import_module(f"worldmodel.cli.{file}").command(words)
    return code
