"""``worldmodel tasks``: list the tasks that an agent can be trained on."""

from __future__ import annotations

from worldmodel.cli.arguments import parse
from worldmodel.columns import aligned
from worldmodel.envs import tasks


def command(typed: list[str]) -> int:
    """List every known task, with its action repeat and action size.

    Example:
        worldmodel tasks
    """
    return parse("tasks", command, _list_tasks, typed)


def _list_tasks() -> int:
    lines = [("task", "action repeat", "action size")]
    lines += [(task.name, str(task.action_repeat), str(task.action_size)) for task in tasks()]
    print(aligned(lines))
    return 0
