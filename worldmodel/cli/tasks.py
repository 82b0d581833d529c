"""``worldmodel tasks``: what can be trained on."""

from __future__ import annotations

from worldmodel.cli.arguments import parse
from worldmodel.columns import aligned
from worldmodel.envs import tasks


def command(typed: list[str]) -> int:
    """Every task known, with its action repeat and action size.

    Example:
        worldmodel tasks
    """
    return parse("tasks", command, _list_tasks, typed)


def _list_tasks() -> int:
    rows = [("task", "action repeat", "action size")]
    rows += [(task.name, str(task.action_repeat), str(task.action_size)) for task in tasks()]
    print(aligned(rows))
    return 0
