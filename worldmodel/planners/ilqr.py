"""iLQR: the iterative linear-quadratic regulator, for differentiable dynamics and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from worldmodel.checks import at_least
from worldmodel.planners.planner import Project
from worldmodel.structs import Score, Search

# Step lengths of the line search, all tried at once.
STEPS = tuple(0.5**k for k in range(8))
# Damping, as a share of the largest curvature: 0 at first, so that a linear-quadratic problem is
# solved in one iteration. If no step lowers the cost it becomes DAMPING, then grows by the factor;
# after each step that does it falls by the factor.
DAMPING, DAMPING_FACTOR = 1e-2, 8.0
# The smallest curvature that is assumed for an action, as a share of the largest.
LEAST_CURVATURE = 1e-9


@dataclass(frozen=True)
class Problem:
    """The problem of a planner with derivatives: a flat state, its dynamics, and costs."""

    state: Tensor  # [B, X]
    step: Callable[[Tensor, Tensor], Tensor]  # [X], [A] -> [X]
    cost: Callable[[Tensor, Tensor], Tensor]  # [X], [A] -> []
    final_cost: Callable[[Tensor], Tensor]  # [X] -> []


@runtime_checkable
class HasProblem(Protocol):
    """A score that also gives the ``Problem`` that ``ILQR`` needs."""

    def problem(self) -> Problem: ...


@dataclass(frozen=True)
class ILQR:
    """The iterative linear-quadratic regulator, with the interface of every planner.

    Its score must have a method ``problem()``. Proposals and generators are not used, because
    nothing is drawn. The search itself keeps the limits [-1, 1]; narrower limits are applied only
    to its answer.
    """

    kind: Literal["ilqr"] = "ilqr"
    horizon: Annotated[int, at_least(1)] = 10
    """Actions that a plan looks ahead. Larger: later rewards count, and plans take longer."""
    iterations: Annotated[int, at_least(1)] = 8
    """Rounds of the search: each solves a quadratic approximation around the last plan."""

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
        if not isinstance(score, HasProblem):
            raise ValueError(
                "planner: ilqr needs the dynamics and the cost behind a score, and this score is a"
                " plain function; choose another planner"
            )
        problem = score.problem()
        search = ilqr(
            problem.step,
            problem.cost,
            problem.final_cost,
            problem.state,
            start,
            iterations=self.iterations,
            low=-1.0,
            high=1.0,
            out_of_time=out_of_time,
        )
        actions = project(search.actions[:, None])
        return Search(actions[:, 0], search.value, actions, search.iterations)


def ilqr(
    dynamics: Callable[[Tensor, Tensor], Tensor],
    cost: Callable[[Tensor, Tensor], Tensor],
    final_cost: Callable[[Tensor], Tensor],
    state: Tensor,
    start: Tensor,
    *,
    iterations: int,
    low: float,
    high: float,
    out_of_time: Callable[[], bool],
) -> Search:
    """Minimise sum_t cost(x_t, u_t) + final_cost(x_L) over actions within [low, high].

        dynamics(x [S], u [A]) -> next x [S]      cost(x, u) -> []      final_cost(x) -> []

    are written for one state and mapped over the batch: ``state`` [B, S], ``start`` [B, L, A]. Each
    iteration expands the cost to second order and the dynamics to first order along the trajectory,
    solves that problem backwards (Riccati), and rolls the true dynamics forward with the resulting
    feedback for several step lengths. A trajectory of the batch changes only if its cost falls.
    Actions at a limit that the solution would cross are held there while the others are solved for.
    The dynamics must not be random.

    ``value`` is minus the cost, ``elites`` is the one trajectory.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        # copies that are no inference tensors, if the caller's were
        state, start = state.clone(), start.clone()
        ways = Trajectories(dynamics, cost, final_cost, state, low, high)
        batch, length, action_size = start.shape
        actions = start.clamp(low, high)
        states = start.new_zeros(batch, length + 1, state.shape[-1])
        push = torch.zeros_like(actions)
        feedback = start.new_zeros(batch, length, action_size, state.shape[-1])
        steps = torch.tensor(STEPS, dtype=start.dtype, device=start.device)
        states = ways.roll(steps[:1], states, actions, push, feedback)[0][:, 0]
        costs = ways.total(states[:, None], actions[:, None])[:, 0]  # [B]
        damping = torch.zeros_like(costs)
        done = 0
        for _ in range(iterations):
            if out_of_time():
                break
            push, feedback = solve_backwards(
                ways.expand(states, actions),
                held_low=actions <= low,
                held_high=actions >= high,
                damping=damping,
            )
            tried_states, tried_actions = ways.roll(steps, states, actions, push, feedback)
            tried, best = ways.total(tried_states, tried_actions).min(1)  # [B]
            better = tried < costs
            each = torch.arange(batch, device=start.device)
            states = torch.where(better[:, None, None], tried_states[each, best], states)
            actions = torch.where(better[:, None, None], tried_actions[each, best], actions)
            costs = torch.where(better, tried, costs)
            less = damping / DAMPING_FACTOR
            less = less.masked_fill(less < DAMPING, 0.0)
            more = (damping * DAMPING_FACTOR).clamp(min=DAMPING)
            damping = torch.where(better, less, more)
            done += 1
        value = -costs if done else torch.full_like(costs, torch.nan)
        return Search(actions, value, elites=actions[:, None], iterations=done)


@dataclass(frozen=True)
class Expansion:
    """Derivatives along a trajectory, by state and action together, J = S + A."""

    slopes: Tensor  # [B, L, J] of the cost
    curvatures: Tensor  # [B, L, J, J] of the cost
    jacobians: Tensor  # [B, L, S, J] of the dynamics
    final_slope: Tensor  # [B, S] of the final cost
    final_curvature: Tensor  # [B, S, S]


class Trajectories:
    """The trajectories from ``state`` [B, S]: rolled with the true dynamics, and their costs."""

    def __init__(
        self,
        dynamics: Callable[[Tensor, Tensor], Tensor],
        cost: Callable[[Tensor, Tensor], Tensor],
        final_cost: Callable[[Tensor], Tensor],
        state: Tensor,
        low: float,
        high: float,
    ) -> None:
        self.dynamics, self.cost, self.final_cost = dynamics, cost, final_cost
        self.state, self.low, self.high = state, low, high

    def total(self, states: Tensor, actions: Tensor) -> Tensor:
        """The cost: [B, N, L + 1, S], [B, N, L, A] -> [B, N]; NaN becomes infinite"""
        running = vmap(vmap(vmap(self.cost)))(states[:, :, :-1], actions).sum(-1)
        costs = running + vmap(vmap(self.final_cost))(states[:, :, -1])
        return costs.masked_fill(~costs.isfinite(), torch.inf)

    def roll(
        self, steps: Tensor, states: Tensor, actions: Tensor, push: Tensor, feedback: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Trajectories, one for each of the N step lengths: [B, N, L + 1, S], [B, N, L, A]"""
        step_all = vmap(vmap(self.dynamics))  # over [B, N]
        current = self.state[:, None].expand(-1, len(steps), -1)
        new_states, new_actions = [current], []
        for t in range(actions.shape[1]):
            action = actions[:, None, t] + steps[:, None] * push[:, None, t]
            change = current - states[:, None, t]  # [B, N, S]
            action = action + change @ feedback[:, t].mT
            new_actions.append(action.clamp(self.low, self.high))
            current = step_all(current, new_actions[-1])
            new_states.append(current)
        return torch.stack(new_states, 2), torch.stack(new_actions, 2)

    def expand(self, states: Tensor, actions: Tensor) -> Expansion:
        """Expand cost and dynamics along a trajectory [B, L + 1, S], [B, L, A]."""
        size = states.shape[-1]

        def joint_cost(joint: Tensor) -> Tensor:
            return self.cost(joint[:size], joint[size:])

        def joint_dynamics(joint: Tensor) -> Tensor:
            return self.dynamics(joint[:size], joint[size:])

        joint = torch.cat([states[:, :-1], actions], -1)  # [B, L, J]
        return Expansion(
            slopes=vmap(vmap(grad(joint_cost)))(joint),
            curvatures=vmap(vmap(jacrev(grad(joint_cost))))(joint),
            jacobians=vmap(vmap(jacrev(joint_dynamics)))(joint),
            final_slope=vmap(grad(self.final_cost))(states[:, -1]),
            final_curvature=vmap(jacrev(grad(self.final_cost)))(states[:, -1]),
        )


def solve_backwards(
    along: Expansion, *, held_low: Tensor, held_high: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve the expanded problem from its end: a push [B, L, A] and a feedback [B, L, A, S].

    ``held_low``, ``held_high``: which actions [B, L, A] are at a limit.
    """
    slope_ahead, curvature_ahead = along.final_slope, along.final_curvature  # of the cost to go
    eye = torch.eye(slope_ahead.shape[-1], dtype=slope_ahead.dtype, device=slope_ahead.device)
    pushes, feedbacks = [], []
    for t in reversed(range(held_low.shape[1])):
        ahead = along.jacobians[:, t]
        slope = along.slopes[:, t] + (slope_ahead[:, None] @ ahead)[:, 0]  # [B, J]
        curvature = along.curvatures[:, t] + ahead.mT @ curvature_ahead @ ahead
        push, feedback = regulate(
            slope.nan_to_num(0.0, 0.0, 0.0),
            curvature.nan_to_num(0.0, 0.0, 0.0),
            held_low=held_low[:, t],
            held_high=held_high[:, t],
            damping=damping,
        )
        pushes.append(push)
        feedbacks.append(feedback)
        # The cost to go of following ``u + push + feedback (x' - x)`` from here on.
        follow = torch.cat([eye.expand(len(push), -1, -1), feedback], 1)  # [B, J, S]
        offset = torch.cat([torch.zeros_like(slope_ahead), push], 1)  # [B, J]
        slope_ahead = (follow.mT @ (slope[..., None] + curvature @ offset[..., None]))[..., 0]
        curvature_ahead = follow.mT @ curvature @ follow
        curvature_ahead = (curvature_ahead + curvature_ahead.mT) / 2
    return torch.stack(pushes[::-1], 1), torch.stack(feedbacks[::-1], 1)


def regulate(
    slope: Tensor, curvature: Tensor, *, held_low: Tensor, held_high: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """The action that minimises a quadratic, as a push [B, A] and a feedback [B, A, S].

    ``slope`` [B, S + A] and ``curvature`` [B, S + A, S + A] are those of the cost to go, by state
    and action. An action at a limit that a descent would cross stays there.
    """
    action_size = held_low.shape[-1]
    by_action = slope[:, -action_size:]
    held = (held_low & (by_action > 0)) | (held_high & (by_action < 0))  # [B, A]
    cross = curvature[:, -action_size:, :-action_size].masked_fill(held[:, :, None], 0.0)
    own = curvature[:, -action_size:, -action_size:]
    own = own.masked_fill(held[:, :, None] | held[:, None], 0.0)
    own = own + torch.diag_embed(held.to(own.dtype))
    # Negative curvatures count with their size, so that the step always lowers the cost.
    values, vectors = torch.linalg.eigh((own + own.mT) / 2)
    values = values.abs()  # [B, A]
    greatest = values.amax(-1, keepdim=True).clamp(min=LEAST_CURVATURE)
    values = values.clamp(min=LEAST_CURVATURE * greatest) + damping[:, None] * greatest
    inverse = vectors / values[:, None] @ vectors.mT  # [B, A, A]
    push = -(inverse @ by_action.masked_fill(held, 0.0)[..., None])[..., 0]
    return push, -(inverse @ cross)
