"""The command ``worldmodel``: it calls the command that was typed, and reports errors.

Each command is one file. A mistake in the arguments prints at most one screen on stderr, before
anything is created, and exits with 2; a run that cannot continue prints one sentence and exits
with 1; an interrupted one exits with 130.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Sequence

from worldmodel import machine
from worldmodel.checks import ConfigError, nearest
from worldmodel.cli import (
    bench,
    compare,
    demo,
    doctor,
    export,
    play,
    tasks,
    train,
    visualize,
    watch,
)
from worldmodel.cli.process_setup import process_setup
from worldmodel.cli.screen import say
from worldmodel.columns import aligned

OVERVIEW = """\
worldmodel: agents that learn a world model from pixels and plan in it

{commands}

Each one explains itself: worldmodel train --help
A first run, about ten minutes: worldmodel train cartpole_swingup --minutes 10
"""

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train.command,
    "eval": play.command,
    "visualize": visualize.command,
    "compare": compare.command,
    "export": export.command,
    "watch": watch.command,
    "demo": demo.command,
    "bench": bench.command,
    "tasks": tasks.command,
    "doctor": doctor.command,
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
            print(f"worldmodel {importlib.metadata.version('worldmodel')}")
            return 0
        case [name, *rest] if name in COMMANDS:
            return COMMANDS[name](rest)
        case [name, *_]:
            what = "option" if name.startswith("-") else "command"
            raise ConfigError(f"no {what} {name}{nearest(name, list(COMMANDS))}")
    raise AssertionError(typed)


def _overview() -> str:
    lines = [(name, _first_line(command)) for name, command in COMMANDS.items()]
    return OVERVIEW.format(commands=aligned(lines, indent="  "))


def _first_line(command: Callable[[list[str]], int]) -> str:
    return (inspect.getdoc(command) or "").splitlines()[0]
