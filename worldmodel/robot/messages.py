"""What the control loop and the planner tell each other: rows go over, plans come back.

Every call of the controller is one row: the action that was done, and the image that came back.
Rows that arrive while the planner searches wait in order, and all of them are consumed before the
next search, so the belief misses nothing. A row whose image cannot be believed keeps its action:
there the belief *imagines*. When more rows wait than may be (a planner that is too slow, or a new
process), the oldest are dropped and the belief begins anew at the first that is left: a belief
never continues over a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.structs import Step


@dataclass(frozen=True)
class Row:
    """What the worker is told at each step, in the agent's units."""

    number: int  # of the controller's step
    action: NDArray[np.float32] | None  # [A] that led here; None before the first
    image: NDArray[np.uint8] | None  # [H, W, C]; None where none can be believed
    begins: bool = False  # nothing before this row is known to the belief
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [V]

    @property
    def observation(self) -> NDArray[np.uint8] | dict[str, NDArray[Any]] | None:
        """What ``agent.observe`` takes: the image, alone or with the vectors beside it."""
        return None if self.image is None else Step(self.image, vectors=self.vectors).observation


@dataclass(frozen=True)
class Answer:
    """What the worker says after it has consumed rows."""

    number: int  # of the newest row that it knew
    actions: NDArray[np.float32] | None  # [L, A] from that row on; None: there is no new plan
    value: float = 0.0  # not finite where no candidate's return is: broken weights
    error: str | None = None  # of the planner

    @property
    def is_finite(self) -> bool:
        actions = () if self.actions is None else self.actions
        return bool(np.isfinite(self.value) and np.isfinite(actions).all())


@runtime_checkable
class Worker(Protocol):
    """What the controller talks to. Neither verb may take long, or wait longer than it is told."""

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def vector_sizes(self) -> Mapping[str, int]: ...

    @property
    def action_size(self) -> int: ...

    @property
    def counts(self) -> dict[str, int]: ...

    def hand_over(self, row: Row) -> None: ...

    def answers(self, number: int, wait_s: float) -> list[Answer]:
        """All that came since the last call; wait at most so long for the one to that row."""
        ...

    def close(self) -> None: ...
