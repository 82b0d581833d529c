"""``check_env`` plays a few rows of an environment and reports what breaks the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldmodel.envs.actions import Actions, Bounded, actions_of
from worldmodel.envs.adopted import opened, wrong_face
from worldmodel.structs import Step, wrong_row


def check_env(env: Any, rows: int = 20) -> None:
    """Play a few rows of random actions; raise ``ValueError`` with a sentence a mistake."""
    env = opened(env)
    wrong = wrong_face(env) or _wrong_rows(env, rows)
    if wrong:
        raise ValueError(f"{type(env).__name__} is not an environment:\n  " + "\n  ".join(wrong))


def _wrong_rows(env: Any, rows: int) -> list[str]:
    random = np.random.default_rng(0)
    actions: Actions = actions_of(env)
    if getattr(env, "is_adopted", False):  # its actions are arrays, choices too
        actions = Bounded(env.action_low, env.action_high)
    first = env.reset()
    wrong = _wrong_row("reset", first, actions)
    if not isinstance(first, Step):
        return wrong
    if first.reward != 0:
        wrong.append(f"reset: expected reward 0 in the first row, got {first.reward}")
    if first.is_last:
        wrong.append("reset: the first row says is_last; expected at least one step")
    if wrong:  # later rows are compared with this one
        return wrong
    row = first
    for _ in range(rows):
        if row.is_last:
            break
        row = env.step(actions.draw(random))
        wrong += _wrong_row("step", row, actions, first)
        if not isinstance(row, Step):
            break
        if row.discount == 0 and not row.is_last:
            wrong.append("step: discount 0 says that the task ended, but is_last is False")
    return list(dict.fromkeys(wrong))  # without repetitions


def _wrong_row(where: str, row: Any, actions: Actions, first: Step | None = None) -> list[str]:
    if not isinstance(row, Step):
        return [f"{where}: expected a worldmodel.Step, got {type(row).__name__}"]
    wrong = [f"{where}: {complaint}" for complaint in wrong_row(row, first)]
    if not isinstance(row.is_last, (bool, np.bool_)):
        wrong.append(f"{where}: is_last: expected a bool, got {type(row.is_last).__name__}")
    if row.env_steps < (0 if where == "reset" else 1):
        wrong.append(f"{where}: env_steps: expected 1 or more, got {row.env_steps}")
    if "image" in row.vectors:
        wrong.append(f"{where}: vectors: image is the image's own name; choose another")
    if isinstance(row.image, Mapping):
        for name in sorted(row.image.keys() & row.vectors.keys()):
            wrong.append(f"{where}: vectors: {name} is a camera's name; choose another")
    if row.action is not None and (complaint := actions.wrong(row.action)):
        wrong.append(f"{where}: {complaint}")
    return wrong
