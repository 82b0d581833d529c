"""Around a search: its settings, the imagined return of candidates, and where a search begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from worldmodel.checks import at_least, more_than
from worldmodel.inputs import check_tensor
from worldmodel.models.imagination import Imagination
from worldmodel.planners import Allowed, Deadline, Limits, Problem, Project, box, draw
from worldmodel.scores import FutureScore, HasCost
from worldmodel.structs import Latent, Plan, Search, Spec
from worldmodel.timing import PlanTiming


@dataclass(frozen=True)
class Planning:
    """What the agent decides around a search, whichever planner searches."""

    proposals: Annotated[int, at_least(0)] = 16  # candidates that the policy draws
    # The planner's initial_std where no policy proposes, or for a score that it never learned.
    std_without_policy: Annotated[float, more_than(0)] = 1.0
    warm_start: bool = True  # begin at the last plan, one step later
    sampled: bool = False  # believe and imagine by draws, as PlaNet does, not by means
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # that candidates are imagined in


class ImaginedReturn:
    """The score of a search: what a model imagines that actions [B, N, L, A] earn, [B, N].

    ``quick`` is the model with quick layers, ``exact`` its own, through which gradients pass.
    ``generators`` draw the latents' noise; None imagines means. A candidate that breaks ``allowed``
    earns minus infinity.
    """

    def __init__(
        self,
        quick: Imagination,
        exact: Imagination,
        belief: Latent,
        score: FutureScore,
        generators: Sequence[torch.Generator] | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self.quick, self.exact, self.belief = quick, exact, belief
        self.score, self.generators, self.allowed = score, generators, allowed

    def __call__(self, actions: Tensor) -> Tensor:
        imagination = self.exact if torch.is_grad_enabled() else self.quick
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
        """The same search for a planner with derivatives; or a sentence that says what lacks."""
        dynamics: Any = self.exact.dynamics
        score = self.score
        lacking = [name for name in ("state", "step", "features_of") if not hasattr(dynamics, name)]
        if lacking:
            raise ValueError(
                f"planner: ilqr follows a flat state, and {type(dynamics).__name__} has no"
                f" {', '.join(lacking)}; choose another planner"
            )
        if not isinstance(score, HasCost):
            raise ValueError(
                f"planner: ilqr needs a score with a cost and a final cost, such as"
                f" agent.goal(picture), and {type(score).__name__} has none"
            )
        return Problem(
            state=dynamics.state(self.belief),
            step=dynamics.step,
            cost=lambda state, action: score.cost(dynamics.features_of(state), action),
            final_cost=lambda state: score.final_cost(dynamics.features_of(state)),
        )

    def best_allowed(self, found: Search, start: Tensor) -> tuple[Tensor, Tensor]:
        """The answer, or where it is not allowed the best elite, or ``start`` [B, 1, L, A].

        The mean of candidates that pass an obstacle on either side runs into it. Returns actions
        [B, L, A], and whether they are allowed [B].
        """
        if self.allowed is None:
            return found.actions, torch.ones_like(found.value, dtype=torch.bool)
        choices = torch.cat([found.actions[:, None], found.elites[:, :1], start], 1)
        futures = self.quick.imagine(self.belief, choices, None)
        kept = keeps(self.allowed, futures, choices)  # [B, 3]
        first = kept.int().argmax(1)
        return choices[torch.arange(len(choices), device=first.device), first], kept.any(1)


def keeps(allowed: Allowed, futures: Latent, actions: Tensor) -> Tensor:
    """Which candidates break a user's constraint in no row: [B, N]"""
    kept = allowed(futures.features.float(), actions)
    check_tensor("limits: allowed", kept, tuple(actions.shape[:3]), torch.bool)
    return kept.all(-1)


def shifted(previous: Plan | None, batch: int, horizon: int, spec: Spec) -> Tensor:
    """The last plan, one step later; rows that it does not reach are still. [B, L, A]"""
    action_size = spec.action_size
    if previous is None:
        return torch.zeros(batch, horizon, action_size)
    ahead = previous.actions.reshape(batch, -1, action_size)[:, 1 : horizon + 1]
    start = ahead.new_zeros(batch, horizon, action_size)
    start[:, : ahead.shape[1]] = ahead
    return start


@dataclass(frozen=True)
class Beginning:
    """Where a search begins, and what stands if there is no time for one."""

    start: Tensor  # [B, L, A]
    proposals: Tensor | None  # [B, M, L, A]
    origin: Literal["policy", "previous"]
    took: dict[str, float | None]  # seconds, for the timing


def begin(
    start: Tensor,
    propose: Callable[[int], Tensor | None],
    count: int,
    *,
    timing: PlanTiming,
    deadline: Deadline,
    now: Callable[[], float],
    may_follow: bool,
) -> Beginning:
    """Let the policy propose as many candidates as there is time for: all, its mean, or none.

    Without time for a search, the policy's mean takes the place of the previous plan where it
    ``may_follow``: where the policy has learned for the score that is planned for.
    """
    in_haste = not deadline.allows(timing.proposing_s + timing.slice_s)
    if in_haste:
        count = min(1, count) if deadline.allows(timing.following_s) else 0
    asked = now()
    proposals = propose(count)
    seconds = now() - asked
    took: dict[str, float | None] = {"proposing_s": seconds}
    if in_haste:
        took = {"proposing_s": None, "following_s": seconds if count else None}
    # asked once more: proposing may have taken longer than it was to
    in_haste = in_haste or not deadline.allows(timing.slice_s)
    if in_haste and proposals is not None and may_follow:
        mean = proposals[:, 0]
        start = torch.where(mean.isfinite(), mean, start)
        return Beginning(start, proposals, "policy", took)
    return Beginning(start, proposals, "previous", took)


def generators_of(
    seed: int | Sequence[int], batch: int, device: torch.device
) -> list[torch.Generator]:
    """One for each row of a batch; a single seed counts up."""
    seeds = range(seed, seed + batch) if isinstance(seed, int) else seed
    return [torch.Generator(device).manual_seed(number) for number in seeds]


def propose(
    quick: Imagination,
    belief: Latent,
    count: int,
    horizon: int,
    generators: Sequence[torch.Generator],
) -> Tensor | None:
    """So many action sequences that the policy would take, the first its mean: [B, M, L, A]"""
    if quick.policy is None or count == 0:
        return None
    shape = (len(generators), horizon, count, quick.model.spec.action_size)
    noise = draw(torch.empty(shape, device=generators[0].device), generators)
    noise[:, :, 0] = 0.0
    return quick.follow(belief, noise.transpose(1, 2))


def projection(
    limits: Limits | None,
    start: Tensor,
    under_way: Tensor | None,
    previous: Plan | None,
    spec: Spec,
) -> Project:
    """What candidates are moved inside of: the limits, counted from the action before the plan."""
    if limits is None:
        return box
    if spec.has_choices and limits.bounds_numbers:
        raise ValueError(
            "limits: an action of this agent is a choice, which has no low, high or max_change;"
            " only allowed= can hold"
        )
    last = None if previous is None else previous.actions[..., 0, :]
    if under_way is not None and under_way.shape[1]:
        last = under_way[:, -1]
    elif limits.last is not None:
        last = torch.as_tensor(limits.last, dtype=torch.float32, device=start.device)
    return limits.project(start, last)
