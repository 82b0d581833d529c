"""What a controller needs of whoever plans: an agent, or an exported one; this needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.images import ImageFit
from worldmodel.limits import Limits
from worldmodel.origin import counted

Belief = Any
"""The actor's own kind of belief."""


class ActorsPlan(Protocol):
    """A plan for one robot."""

    @property
    def value(self) -> Any: ...

    @property
    def milliseconds(self) -> float: ...

    @property
    def origin(self) -> str:
        """``search``, ``policy`` or ``previous``"""

    @property
    def sequence(self) -> NDArray[np.float32]:
        """[L, A] all actions"""

    def after(self, rows: int) -> Any:
        """The same plan so many rows later: without its first actions."""


@runtime_checkable
class Actor(Protocol):
    """An agent for one robot: ``worldmodel.Agent``, or the ``Runner`` of an export."""

    @property
    def fitting(self) -> ImageFit:
        """How images of cameras become the one that is observed."""

    @property
    def vector_sizes(self) -> Mapping[str, int]: ...

    @property
    def action_size(self) -> int: ...

    @property
    def has_choices(self) -> bool:
        """Whether an action is one of ``action_size`` choices."""

    def initial(self) -> Belief: ...

    def no_action(self) -> NDArray[np.float32]: ...

    def observe(self, belief: Belief, action: Any, image: Any) -> Belief: ...

    def imagine(self, belief: Belief, action: Any) -> Belief: ...

    def is_finite(self, belief: Belief) -> bool: ...

    def plan(
        self,
        belief: Belief,
        previous: Any = None,
        seed: int = 0,
        deadline_ms: float | None = None,
        *,
        limits: Limits | None = None,
    ) -> Any: ...

    def warm_up(self) -> None: ...


def refuse_choices(actor: Actor) -> None:
    """Raise if an action is a choice: a motor's limits do not fit it."""
    if actor.has_choices:
        raise ValueError(
            f"agent: its actions are one of {actor.action_size} choices, which have no low, high"
            " or max_change; a Controller is for motors, so call"
            " agent.plan(belief, deadline_ms=...) in a loop of your own"
        )


def require_action_size(actors: int, given: int) -> None:
    """Raise if the limits are of another number of motors than the agent's actions."""
    if actors != given:
        raise ValueError(
            f"low: the agent has {counted(actors, 'action')}, got {counted(given, 'number')}"
        )
