"""A planner that counts how many latents a search imagines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldmodel.agent import Agent
from worldmodel.planners import Planner, Project, no_planner
from worldmodel.structs import Score, Search


def counting(agent: Agent) -> tuple[Agent, CountingPlanner]:
    """A copy of ``agent`` that counts its searches; ``agent`` itself stays as it is."""
    if agent.search is None:
        raise no_planner("a count of candidates")
    planner = CountingPlanner(agent.search)
    return agent.changed(search=planner), planner


class CountingPlanner:
    """Wraps a planner; ``steps`` counts the latents of its candidates and proposals."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.steps = 0

    @property
    def horizon(self) -> int:
        return self.planner.horizon

    def search(
        self,
        score: Score,
        start: Tensor,
        *,
        proposals: Tensor | None,
        generators: Sequence[torch.Generator],
        project: Project,
        out_of_time: Callable[[], bool],
        slice_size: int | None = None,
    ) -> Search:
        def counted(actions: Tensor) -> Tensor:
            self.steps += actions.shape[:3].numel()
            return score(actions)

        if proposals is not None:
            self.steps += proposals.shape[:3].numel()
        return self.planner.search(
            counted,
            start,
            proposals=proposals,
            generators=generators,
            project=project,
            out_of_time=out_of_time,
            slice_size=slice_size,
        )
