"""The check that an environment keeps the contract: a few rows, and a sentence for each mistake."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldmodel.envs.actions import Actions, Bounded, actions_of
from worldmodel.envs.adopted import opened, wrong_face
from worldmodel.envs.images import wrong_size
from worldmodel.structs import Step


def check_env(env: Any, rows: int = 20) -> None:
    """Play a few rows with random actions; ``ValueError`` with a sentence for each thing wrong."""
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
    row = first
    for _ in range(rows):
        if row.is_last:
            break
        row = env.step(actions.draw(random))
        wrong += _wrong_row("step", row, actions)
        if not isinstance(row, Step):
            break
        if np.shape(row.image) != np.shape(first.image):
            wrong.append(
                f"step: image changes its shape from {np.shape(first.image)} to"
                f" {np.shape(row.image)}"
            )
        sizes = [{n: np.shape(v) for n, v in r.vectors.items()} for r in (first, row)]
        if sizes[0] != sizes[1]:
            wrong.append(f"step: vectors change from {sizes[0]} to {sizes[1]}")
        if row.discount == 0 and not row.is_last:
            wrong.append("step: discount 0 says that the task ended, but is_last is False")
    return list(dict.fromkeys(wrong))  # each sentence once


def _wrong_row(where: str, row: Any, actions: Actions) -> list[str]:
    if not isinstance(row, Step):
        return [f"{where}: expected a worldmodel.structs.Step, got {type(row).__name__}"]
    wrong = []
    image = row.image
    if not isinstance(image, np.ndarray):
        wrong.append(f"{where}: image: expected a numpy array, got {type(image).__name__}")
    elif image.dtype != np.uint8 or image.ndim != 3:
        wrong.append(f"{where}: image: expected uint8 [H, W, C], got {image.dtype} {image.shape}")
    elif complaint := wrong_size(image.shape):
        wrong.append(f"{where}: {complaint}")
    if not np.isscalar(row.reward) and np.shape(row.reward) != ():
        wrong.append(f"{where}: reward: expected one number, got shape {np.shape(row.reward)}")
    elif not np.isfinite(row.reward):
        wrong.append(f"{where}: reward: expected a finite number, got {row.reward}")
    if not 0 <= row.discount <= 1:
        wrong.append(f"{where}: discount: expected 0 to 1, got {row.discount}")
    if not isinstance(row.is_last, (bool, np.bool_)):
        wrong.append(f"{where}: is_last: expected a bool, got {type(row.is_last).__name__}")
    if row.env_steps < (0 if where == "reset" else 1):
        wrong.append(f"{where}: env_steps: expected 1 or more, got {row.env_steps}")
    for name, felt in row.vectors.items():
        vector = np.asarray(felt)
        if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            wrong.append(
                f"{where}: {name}: expected numbers [V], got {vector.dtype} {vector.shape}"
            )
        elif not np.isfinite(vector).all():
            wrong.append(f"{where}: {name}: expected finite numbers, got {vector.tolist()}")
        if name == "image":
            wrong.append(f"{where}: vectors: image is the image's own name; choose another")
    if row.action is not None and (complaint := actions.wrong(row.action)):
        wrong.append(f"{where}: {complaint}")
    return wrong
