"""Planning with a model: what a search scores, and where it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.checks import at_least, more_than, require
from worldmodel.inputs import as_under_way, check_tensor
from worldmodel.models import WorldModel
from worldmodel.models.dynamics import NoDynamics
from worldmodel.models.imagination import Imagination
from worldmodel.planners import (
    ILQR,
    Allowed,
    Limits,
    Planner,
    PlannerSettings,
    Problem,
    Project,
    box,
    draw,
    projection_into,
)
from worldmodel.scores import FutureScore, Goal, HasCost
from worldmodel.structs import Latent, Plan, Search, Spec, at
from worldmodel.timing import PlanTiming, TimedPlan, measure


@dataclass(frozen=True)
class GoalPlanning:
    """Settings of planning to goal images."""

    action_cost: Annotated[float, at_least(0)] = 0.01
    """Cost of the squared action, next to the squared distance of latents. Larger: smaller actions,
    and slower ways to the goal."""


@dataclass(frozen=True)
class Planning:
    """Settings of planning that do not depend on the kind of planner."""

    proposals: Annotated[int, at_least(0)] = 16
    """Candidates that the policy draws; fewer than planner.candidates. Larger: plans stay nearer to
    the policy."""
    std_without_policy: Annotated[float, more_than(0)] = 1.0
    """Standard deviation of the first candidates if no policy proposes, or for a score that the
    policy has not learned for."""
    warm_start: bool = True
    """Whether a search begins at the last plan, shifted by one row, instead of at zeros."""
    pessimism: float = 0.0
    """Weight of the ensemble's disagreement, subtracted from each imagined reward. Larger: plans
    keep to what the model knows. Below 0: they seek what it does not know."""
    sampled: bool = False
    """Whether beliefs and imagined latents are drawn at random, as in PlaNet, instead of being
    means."""
    # A robot whose plan comes some rows late follows the later actions; 4 is not studied.
    policy_rows: Annotated[int, at_least(1)] = 4
    """Rows of a plan if planner is none: the policy's own actions, along what the model imagines.
    Larger: a robot can follow a plan for longer, and plans take longer."""
    goal: GoalPlanning | None = None
    """Episodes are planned to the goal image that the environment gives, and ilqr needs this. none:
    they are planned for the learned reward."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of products while planning: auto takes bfloat16 if this machine is fast at it,
    else float32."""


class ImaginedReturn:
    """The score of a search: the return that the model imagines, [B, N, L, A] -> [B, N].

    ``fast`` is the model with fast layers, ``exact`` with its own, through which gradients pass.
    ``generators`` draw the latents' noise; None imagines means. The return of a candidate that
    breaks ``allowed`` is minus infinity.
    """

    def __init__(
        self,
        fast: Imagination,
        exact: Imagination,
        belief: Latent,
        score: FutureScore,
        generators: Sequence[torch.Generator] | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self.fast, self.exact, self.belief = fast, exact, belief
        self.score, self.generators, self.allowed = score, generators, allowed

    def __call__(self, actions: Tensor) -> Tensor:
        imagination = self.exact if torch.is_grad_enabled() else self.fast
        noise = None
        if self.generators is not None:
            shape = (*actions.shape[:3], self.exact.dynamics.noise_size)
            noise = draw(actions.new_empty(shape), self.generators)
        futures = imagination.imagine(self.belief, actions, noise)
        per_row = self.score.of_rows(futures, actions, imagination)
        if per_row.shape != actions.shape[:3]:
            raise ValueError(
                f"score: expected [B, N, L] = {list(actions.shape[:3])}, got {list(per_row.shape)}"
            )
        # a score may answer in the dtype of the latents: 8 bits would not rank sums
        returns = per_row.sum(-1, dtype=torch.promote_types(per_row.dtype, torch.float32))
        if self.allowed is not None:
            returns = returns.masked_fill(~keeps(self.allowed, futures, actions), -torch.inf)
        return returns

    def problem(self) -> Problem:
        """The same search for a planner with derivatives; raise if dynamics or score do not fit."""
        dynamics: Any = self.exact.dynamics
        score = self.score
        refuse_without_state(dynamics)
        if not isinstance(score, HasCost):
            raise ValueError(
                f"planner: ilqr needs a score with a cost and a final cost, such as"
                f" agent.goal(picture), and {type(score).__name__} has none"
            )
        features_of, state = dynamics.features_of, dynamics.state(self.belief)
        if not isinstance(score, Goal) or score.target.dim() == 1:
            return Problem(
                state=state,
                step=dynamics.step,
                cost=lambda state, action: score.cost(features_of(state), action),
                final_cost=lambda state: score.final_cost(features_of(state)),
            )
        # A goal for each robot is a part of its state that no action changes.
        goals, size = score, state.shape[-1]

        def step(joint: Tensor, action: Tensor) -> Tensor:
            return torch.cat([dynamics.step(joint[:size], action), joint[size:]])

        def goal_of(joint: Tensor) -> Goal:
            return replace(goals, target=joint[size:])

        return Problem(
            state=torch.cat([state, goals.target.to(state)], -1),
            step=step,
            cost=lambda joint, u: goal_of(joint).cost(features_of(joint[:size]), u),
            final_cost=lambda joint: goal_of(joint).final_cost(features_of(joint[:size])),
        )

    def best_allowed(self, search: Search, start: Tensor) -> tuple[Tensor, Tensor]:
        """The first allowed one of the answer, the best elite and ``start`` [B, 1, L, A].

        The answer may be a mean of elites that pass an obstacle on both sides, and so hit it.
        Returns actions [B, L, A], and whether they are allowed [B].
        """
        if self.allowed is None:
            return search.actions, torch.ones_like(search.value, dtype=torch.bool)
        choices = torch.cat([search.actions[:, None], search.elites[:, :1], start], 1)
        futures = self.fast.imagine(self.belief, choices, None)
        kept = keeps(self.allowed, futures, choices)  # [B, 3]
        first = kept.int().argmax(1)
        return choices[torch.arange(len(choices), device=first.device), first], kept.any(1)


def keeps(allowed: Allowed, futures: Latent, actions: Tensor) -> Tensor:
    """Whether candidates keep a user's constraint in every row: [B, N]"""
    kept: Tensor = allowed(futures.features.float(), actions)
    check_tensor("limits: allowed", kept, tuple(actions.shape[:3]), torch.bool)
    return kept.all(-1)


def shifted(previous: Plan | None, batch: int, horizon: int, spec: Spec) -> Tensor:
    """The last plan, shifted by one row: [B, L, A]. Actions beyond its end are zero."""
    action_size = spec.action_size
    if previous is None:
        return torch.zeros(batch, horizon, action_size)
    ahead = previous.actions.reshape(batch, -1, action_size)[:, 1 : horizon + 1]
    start = ahead.new_zeros(batch, horizon, action_size)
    start[:, : ahead.shape[1]] = ahead
    return start


@dataclass(frozen=True)
class Beginning:
    """Where a search begins; ``start`` is the plan if there is no time for a search."""

    start: Tensor  # [B, L, A]
    proposals: Tensor | None  # [B, M, L, A]
    origin: Literal["policy", "previous"]  # of ``start``


def begin(
    start: Tensor,
    propose: Callable[[int], Tensor | None],
    count: int,
    *,
    time: TimedPlan,
    may_follow: bool,
) -> Beginning:
    """Let the policy propose as many candidates as there is time for: all, its mean, or none.

    If there is no time for a search, the search starts from, and so returns, the policy's mean
    instead of the previous plan. ``may_follow``: whether the policy has learned for this score, and
    may replace the previous plan.
    """
    proposals, in_haste = time.propose(propose, count)
    if in_haste and proposals is not None and may_follow:
        mean = proposals[:, 0]
        start = torch.where(mean.isfinite(), mean, start)
        return Beginning(start, proposals, "policy")
    return Beginning(start, proposals, "previous")


def search_from(
    beginning: Beginning,
    planner: Planner,
    imagined: ImaginedReturn,
    *,
    project: Project,
    generators: Sequence[torch.Generator],
    time: TimedPlan,
) -> tuple[Plan, PlanTiming]:
    """Search while there is time: the best plan found, of a batch, and what the next one may take.

    If nothing was scored in time, the plan is the beginning itself.
    """
    found = planner.search(
        imagined,
        beginning.start,
        proposals=beginning.proposals,
        generators=generators,
        project=project,
        out_of_time=time.out_of_time,
        slice_size=time.slice_size,
    )
    timing = time.end_search()
    actions, is_allowed = imagined.best_allowed(found, project(beginning.start[:, None]))
    has_searched = time.deadline_ms is None or not bool(found.value.isnan().any())
    plan = Plan(
        actions,
        found.value,
        found.elites,
        found.iterations,
        milliseconds=time.milliseconds,
        is_allowed=is_allowed,
        origin="search" if has_searched else beginning.origin,
    )
    return plan, timing


def follow_policy(
    imagination: Imagination,
    belief: Latent,
    rows: int,
    *,
    project: Project,
    allowed: Allowed | None,
    time: TimedPlan,
) -> Plan:
    """The policy's most likely actions along what the model imagines: a plan without a search.

    Rows are added while there is time; the first one is always there.
    """
    actions = project(imagination.follow_mean(belief, rows, time.out_of_time)[:, None])
    kept = torch.ones(len(actions), dtype=torch.bool, device=actions.device)
    if allowed is not None:
        kept = keeps(allowed, imagination.imagine(belief, actions, None), actions)[:, 0]
    return Plan(
        actions[:, 0],
        actions.new_full((len(actions),), torch.nan),
        actions,
        iterations=0,
        milliseconds=time.milliseconds,
        is_allowed=kept,
        origin="policy",
    )


def refuse_without_state(dynamics: Any) -> None:
    """Raise if dynamics have no flat state for iLQR to follow."""
    lacking = [name for name in ("state", "step", "features_of") if not hasattr(dynamics, name)]
    require(
        not lacking,
        f"planner: ilqr follows a flat state, and {type(dynamics).__name__} has no"
        f" {', '.join(lacking)}; choose another planner",
    )


def require_imagination(model: WorldModel, planner: PlannerSettings) -> None:
    """Raise if the model imagines nothing that the planner could search in."""
    if isinstance(planner, ILQR):
        refuse_without_state(model.dynamics)
    require(
        not isinstance(model.dynamics, NoDynamics),
        "planner: expected none, because model.dynamics.kind is none: whatever is done, this model"
        " imagines that nothing changes, and no action could be ranked; write planner: none",
    )


def after_delay(
    model: WorldModel, belief: Latent, delay: NDArray[np.floating] | Tensor | None
) -> tuple[Latent, Tensor | None]:
    """The beliefs [B] after the actions under way [B, D, A], and these actions."""
    beliefs = belief if belief.shape else at(belief, None)
    if delay is None:
        return beliefs, None
    device = belief.features.device
    under_way = as_under_way(delay, tuple(belief.shape), model.spec.action_size, device)
    if under_way.shape[1]:
        beliefs = at(model.imagine(beliefs, under_way, None), (slice(None), -1))
    return beliefs, under_way


def measure_search(
    imagined: ImaginedReturn,
    *,
    horizon: int,
    candidates: int,
    proposals: int,
    clock: Callable[[], float],
) -> PlanTiming:
    """Measure how long this machine takes to score candidates of a plan, and to propose some."""
    action_size = imagined.exact.model.spec.action_size
    belief, device = imagined.belief, imagined.belief.features.device
    generators = generators_of(0, 1, device)
    return measure(
        lambda count: imagined(torch.zeros(1, count, horizon, action_size, device=device)),
        lambda count: propose(imagined.fast, belief, count, horizon, generators),
        candidates=candidates,
        proposals=proposals,
        clock=clock,
    )


def generators_of(
    seed: int | Sequence[int], batch: int, device: torch.device
) -> list[torch.Generator]:
    """A random generator for each search of a batch; a single seed counts up."""
    seeds = range(seed, seed + batch) if isinstance(seed, int) else seed
    return [torch.Generator(device).manual_seed(number) for number in seeds]


def propose(
    imagination: Imagination,
    belief: Latent,
    count: int,
    horizon: int,
    generators: Sequence[torch.Generator],
) -> Tensor | None:
    """Draw ``count`` action sequences from the policy, the first its mean: [B, M, L, A]"""
    if imagination.policy is None or count == 0:
        return None
    shape = (len(generators), horizon, count, imagination.model.spec.action_size)
    noise = draw(torch.empty(shape, device=generators[0].device), generators)
    noise[:, :, 0] = 0.0
    return imagination.follow(belief, noise.transpose(1, 2))


def projection(
    limits: Limits | None,
    start: Tensor,
    under_way: Tensor | None,
    previous: Plan | None,
    spec: Spec,
) -> Project:
    """The projection of candidates into the limits, which count from the action before the plan."""
    if limits is None:
        return box
    if spec.has_choices:
        limits.refuse_for_choices()
    last = None if previous is None else previous.actions[..., 0, :]
    if under_way is not None and under_way.shape[1]:
        last = under_way[:, -1]
    elif limits.last is not None:
        last = torch.as_tensor(limits.last, dtype=torch.float32, device=start.device)
    return projection_into(limits, start, last)
