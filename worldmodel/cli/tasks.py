"""``worldmodel tasks``: list the tasks that an agent can be trained on.

The list is a table that travels with the package, because the simulator takes ten seconds to tell
it. ``python -m worldmodel.cli.tasks`` writes it; a test compares it with the simulator's suite.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path

from worldmodel import files
from worldmodel.columns import aligned

TABLE = Path(__file__).with_name("tasks.csv")


def command(typed: list[str]) -> int:
    """List every known task, with its action repeat and action size.

    Example:
        worldmodel tasks
    """
    from worldmodel.cli.arguments import parse  # slow to import, and suggestions need no parser

    return parse("tasks", command, _list_tasks, typed)


def known_tasks() -> list[str]:
    """The names in the table."""
    return [row[0] for row in _rows()[1:]]


def _list_tasks() -> int:
    print(aligned(_rows()))
    if importlib.util.find_spec("dm_control") is None:
        pip = 'pip install "dm-control==1.0.50" "mujoco>=3.17,<4"'
        print(f"all but toy, planar and pendulum need dm_control: {pip}")
    return 0


def _rows() -> list[list[str]]:
    """The table's head, then name, action repeat and action size of each task."""
    with TABLE.open(newline="") as file:
        return list(csv.reader(file))


def table() -> str:
    """The table as the simulator's suite has it; this loads the suite."""
    from worldmodel.envs import tasks

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "action repeat", "action size"])
    writer.writerows([task.name, task.action_repeat, task.action_size] for task in tasks())
    return text.getvalue()


if __name__ == "__main__":
    files.write(TABLE, table().encode())
