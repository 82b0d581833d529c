"""Settings of planning with any planner: what the agent hands to a search, and how it imagines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from worldmodel.checks import at_least, more_than


@dataclass(frozen=True)
class Planning:
    """What the agent decides around a search, whichever planner searches."""

    proposals: Annotated[int, at_least(0)] = 16  # candidates that the policy draws
    # The planner's initial_std where no policy proposes, or for a score that it never learned.
    std_without_policy: Annotated[float, more_than(0)] = 1.0
    warm_start: bool = True  # begin at the last plan, one step later
    sampled: bool = False  # believe and imagine by draws, as PlaNet does, not by means
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # that candidates are imagined in
