"""The imagined return of a search, and what it says to a planner with derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import Echo
from tests.test_planners import LinearQuadratic
from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.models import WorldModel, build
from worldmodel.models.imagination import Imagination
from worldmodel.models.latents import Point
from worldmodel.planners import ILQR, box
from worldmodel.planning import ImaginedReturn
from worldmodel.scores import FutureScore, Quadratic, RewardSum
from worldmodel.structs import Search, Spec

S, A, L = 3, 2, 6


class Linear(nn.Module):
    """x' = F x + G u, whose features are the state backwards."""

    def __init__(self, problem: LinearQuadratic) -> None:
        super().__init__()
        self.problem = problem
        self.noise_size = 0

    def remember(self, latent: Point, action: Tensor) -> Point:
        return Point(self.step(latent.z.flip(-1), action).flip(-1))

    def imagine(self, context: Point, noise: Tensor | None) -> Point:
        return context

    def state(self, latent: Point) -> Tensor:
        return latent.z.flip(-1)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        return self.problem.dynamics(state, action)

    def features_of(self, state: Tensor) -> Tensor:
        return state.flip(-1)


def model_with(tiny: Config, dynamics: Any) -> WorldModel:
    sized = read(tiny, {"model": {"dynamics": {"deter_size": 1, "stoch_size": S - 1}}})
    model = build(sized.model, Spec((16, 16, 3), A))  # heads and policy read S features
    model.dynamics = dynamics
    return model


def imagined(model: WorldModel, belief: Point, score: FutureScore) -> ImaginedReturn:
    exact = Imagination(model, None)
    return ImaginedReturn(exact, exact, belief, score)


def search(score: ImaginedReturn, start: Tensor) -> Search:
    planner = ILQR(horizon=start.shape[1], iterations=1)
    generators: Sequence[torch.Generator] = []
    return planner.search(
        score,
        start,
        proposals=None,
        generators=generators,
        project=box,
        out_of_time=lambda: False,
    )


def quadratic(target: Tensor, of_state: Tensor, of_action: Tensor) -> Quadratic:
    return Quadratic(target.flip(-1), of_state.flip(-1), of_action)


@pytest.mark.parametrize("seed", range(3))
def test_ilqr_as_a_planner_equals_the_riccati_solution(tiny: Config, seed: int) -> None:
    problem = LinearQuadratic.random(S, A, seed)
    ones = torch.ones(S, dtype=torch.float64)
    score = quadratic(0 * ones, ones, ones[:A] / 2)
    start = torch.zeros(1, L, A, dtype=torch.float64)
    belief = Point(problem.state.flip(-1)[None])
    asked = imagined(model_with(tiny, Linear(problem)), belief, score)
    result = search(asked, start)
    best = problem.riccati(L)[None]
    torch.testing.assert_close(result.actions, best, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(result.value, -problem.total(best), atol=1e-6, rtol=1e-6)
    # a return counts the rows that actions lead to, and this cost the first state too
    here = -problem.state.square().sum()
    returns = asked(result.actions[:, None])[:, 0]
    torch.testing.assert_close(result.value, returns.double() + here, atol=1e-5, rtol=1e-5)


def test_ilqr_reaches_for_a_target_with_the_weights_that_it_is_given(tiny: Config) -> None:
    """Against the one stationary point of the whole cost, which is a parabola in all actions."""
    problem = LinearQuadratic.random(S, A, seed=5)
    target, of_state = (torch.tensor(n, dtype=torch.float64) for n in ([0.1, 0.2, -0.1], [1, 3, 2]))
    of_action = torch.tensor([4.0, 2.0], dtype=torch.float64)

    def total(actions: Tensor) -> Tensor:
        state, cost = problem.state, torch.zeros((), dtype=torch.float64)
        for action in actions.reshape(L, A):
            cost = cost + of_state @ (state - target).square() + of_action @ action.square()
            state = problem.dynamics(state, action)
        return cost + of_state @ (state - target).square()

    start = torch.zeros(L * A, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(total, start)
    curvature = torch.autograd.functional.hessian(total, start)
    best = -torch.linalg.solve(curvature, slope)  # type: ignore[arg-type]
    assert best.abs().max() < 1
    score = quadratic(target, of_state, of_action)
    belief = Point(problem.state.flip(-1)[None])
    asked = imagined(model_with(tiny, Linear(problem)), belief, score)
    result = search(asked, start.reshape(1, L, A))
    torch.testing.assert_close(result.actions.flatten(), best, atol=1e-6, rtol=1e-6)


def test_an_agent_plans_with_ilqr_what_riccati_does(tiny: Config) -> None:
    exact = LinearQuadratic.random(S, A, seed=1)
    problem = LinearQuadratic(exact.carry.float(), exact.drive.float(), exact.state.float())
    model = model_with(tiny, Linear(problem))
    agent = agent_of(replace(tiny, planner=ILQR(horizon=L, iterations=1)), model)
    ones = torch.ones(S)
    score = quadratic(0 * ones, ones, ones[:A] / 2)
    plan = agent.plan(Point(problem.state.flip(-1)), score=score)
    torch.testing.assert_close(plan.actions, exact.riccati(L).float(), atol=1e-4, rtol=1e-4)
    assert (plan.origin, plan.iterations) == ("search", 1)


def complaint(score: Any) -> str:
    with pytest.raises(ValueError, match="planner: ilqr") as raised:
        search(score, torch.zeros(1, L, A))
    return str(raised.value)


def test_ilqr_says_what_it_lacks(tiny: Config) -> None:
    echo, belief = Echo(A), Echo(A).at_rest(1, 4)
    score = Quadratic(torch.zeros(A), torch.ones(A), torch.ones(A))
    model = model_with(tiny, echo)
    exact = Imagination(model, None)
    assert complaint(ImaginedReturn(exact, exact, belief, score)) == (
        "planner: ilqr follows a flat state, and Echo has no state, step, features_of;"
        " choose another planner"
    )
    linear = model_with(tiny, Linear(LinearQuadratic.random(S, A, seed=0)))
    assert complaint(imagined(linear, Point(torch.zeros(1, S)), RewardSum(0.99))) == (
        "planner: ilqr needs a score with a cost and a final cost, such as agent.goal(picture),"
        " and RewardSum has none"
    )
    assert complaint(lambda actions: actions.sum((-2, -1))) == (
        "planner: ilqr needs the dynamics and the cost behind a score, and this score is a plain"
        " function; choose another planner"
    )


class Half:
    """A score that answers in bfloat16, as the latents that it reads may be."""

    def of_rows(self, futures: Any, actions: Tensor, heads: Imagination) -> Tensor:
        return actions.sum(-1).bfloat16()


def test_returns_are_summed_in_float32_at_least(tiny: Config) -> None:
    model = model_with(tiny, Linear(LinearQuadratic.random(S, A, seed=0)))
    asked = imagined(model, Point(torch.zeros(1, S, dtype=torch.float64)), Half())
    actions = torch.full((1, 2, L, A), 0.5, dtype=torch.float64)
    actions[:, 1, 0, 0] += 2**-7  # bfloat16 holds it in the first row, and not in the sum of 6
    returns = asked(actions)
    assert returns.dtype == torch.float32
    assert returns[0, 1] > returns[0, 0]
