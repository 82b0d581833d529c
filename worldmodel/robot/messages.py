"""Messages between the control loop and the planner: rows one way, answers with plans the other.

Every call of the controller is one row: the action that was done, and the image that came back.
Rows that arrive while the planner searches wait in order, and all of them are consumed before the
next search, so the belief misses none. A row without a valid image has an action still: the belief
*imagines* it. When too many rows wait (the planner is too slow, or its process is new), the oldest
are dropped and the belief begins again at the first that is left: a belief never continues over a
gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.images import ImageFit


@dataclass(frozen=True)
class Row:
    """One row for the worker, in the agent's units."""

    number: int  # of the controller's step
    action: NDArray[np.float32] | None  # [A] done before the image; None before the first
    image: NDArray[np.uint8] | None  # [H, W, C]; None if there is no valid one
    begins: bool = False  # the belief begins again here: rows before this one are missing
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [V]

    @property
    def observation(self) -> NDArray[np.uint8] | dict[str, NDArray[Any]] | None:
        """The image, or a dict of image and vectors, as ``agent.observe`` takes it."""
        if self.image is None:
            return None
        return {"image": self.image, **self.vectors} if self.vectors else self.image


@dataclass(frozen=True)
class Answer:
    """The worker's answer after it has consumed rows."""

    number: int  # of the newest consumed row
    actions: NDArray[np.float32] | None  # [L, A] from that row on; None: there is no new plan
    value: float = 0.0  # not finite if no candidate's return is, as with broken weights
    error: str | None = None  # of the planner
    origin: str | None = None  # of the plan: search, policy or previous
    milliseconds: float = math.nan  # of the plan

    @property
    def is_finite(self) -> bool:
        actions = () if self.actions is None else self.actions
        return bool(np.isfinite(self.value) and np.isfinite(actions).all())


@runtime_checkable
class Worker(Protocol):
    """The planner's side, as the controller calls it.

    ``hand_over`` returns at once; ``answers`` waits for ``wait_s`` at most.
    """

    @property
    def fitting(self) -> ImageFit: ...

    @property
    def vector_sizes(self) -> Mapping[str, int]: ...

    @property
    def action_size(self) -> int: ...

    @property
    def counts(self) -> dict[str, int]: ...

    def hand_over(self, row: Row) -> None: ...

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        """Return the answers since the last call; wait up to ``wait_s`` for that to ``number``."""
        ...

    def close(self) -> None: ...
