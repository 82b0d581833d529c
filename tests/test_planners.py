"""Planners against scores whose best actions are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldmodel.checks import ConfigError
from worldmodel.planners import (
    CEM,
    ICEM,
    MPPI,
    CategoricalCEM,
    Deadline,
    Gradient,
    Limits,
    Planner,
    Refined,
    Shooting,
    box,
    ilqr,
    of_kind,
    over_choices,
    projection_into,
)
from worldmodel.planners.candidates import draw
from worldmodel.planners.icem import colouring
from worldmodel.structs import Score, Search

BATCH, LENGTH, ACTIONS = 4, 3, 2

SAMPLERS: dict[str, Planner] = {
    "cem": CEM(horizon=LENGTH, iterations=8, candidates=80, elites=10, initial_std=1.0),
    "icem": ICEM(
        horizon=LENGTH,
        iterations=8,
        candidates=80,
        elites=10,
        initial_std=0.5,
        noise_exponent=0.5,
        elites_kept=0.5,
        decay=0.9,
        momentum=0.1,
    ),
    "mppi": MPPI(
        horizon=LENGTH,
        iterations=10,
        candidates=80,
        elites=16,
        temperature=5.0,
        min_std=0.05,
        initial_std=1.0,
    ),
    "shooting": Shooting(horizon=LENGTH, iterations=8, candidates=2000, elites=5),
}
CLIMB = Gradient(horizon=LENGTH, iterations=60, candidates=6, elites=3, initial_std=0.5, rate=0.2)
PLANNERS = {
    **SAMPLERS,
    "gradient": CLIMB,
    "refined": Refined(
        dataclasses.replace(SAMPLERS["cem"], iterations=2),
        dataclasses.replace(CLIMB, iterations=30),
    ),
}
every_planner = pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)

TOP = torch.tensor([[0.7, -0.4], [-0.1, 0.3], [0.5, 0.0]])  # [L, A]
BLIND = torch.full((1, LENGTH, ACTIONS), 0.9)  # far from the top


def parabola(actions: Tensor) -> Tensor:
    """A parabola with its maximum, 0, at TOP."""
    return -(actions - TOP).square().sum((-1, -2))


def search(
    planner: Planner,
    score: Score,
    start: Tensor | None = None,
    *,
    seed: int = 0,
    proposals: Tensor | None = None,
    project: Callable[[Tensor], Tensor] = box,
    asks: float = math.inf,
    slice_size: int | None = None,
) -> Search:
    """Run one search; ``out_of_time`` is False for the first ``asks`` calls and then True."""
    start = torch.zeros(1, LENGTH, ACTIONS) if start is None else start
    asked = 0

    def out_of_time() -> bool:
        nonlocal asked
        asked += 1
        return asked > asks

    return planner.search(
        score,
        start,
        proposals=proposals,
        generators=[torch.Generator().manual_seed(seed + row) for row in range(len(start))],
        project=project,
        out_of_time=out_of_time,
        slice_size=slice_size,
    )


def farthest(actions: Tensor, goal: Tensor = TOP) -> float:
    return float((actions - goal).abs().max())


# All planners


@every_planner
def test_the_top_of_a_parabola_is_found(planner: Planner) -> None:
    result = search(planner, parabola, torch.zeros(BATCH, LENGTH, ACTIONS))
    tolerance = 0.4 if isinstance(planner, Shooting) else 0.06
    assert farthest(result.actions) < tolerance
    assert result.actions.shape == (BATCH, LENGTH, ACTIONS)
    assert result.elites.shape[::2] == (BATCH, LENGTH)
    torch.testing.assert_close(result.value, parabola(result.elites).mean(1))
    best_first = parabola(result.elites)
    assert (best_first.diff(dim=1) <= 0).all()


@every_planner
def test_a_score_with_its_sign_flipped_does_not_lead_to_the_top(planner: Planner) -> None:
    assert farthest(search(planner, lambda actions: -parabola(actions)).actions) > 0.6


@every_planner
def test_a_batch_of_four_searches_is_four_single_searches(planner: Planner) -> None:
    shake = torch.Generator().manual_seed(5)
    tops = torch.rand(BATCH, 1, LENGTH, ACTIONS, generator=shake) - 0.5
    start = torch.rand(BATCH, LENGTH, ACTIONS, generator=shake) - 0.5
    proposals = torch.rand(BATCH, 2, LENGTH, ACTIONS, generator=shake) - 0.5

    def score(row: slice) -> Score:
        return lambda actions: -(actions - tops[row]).square().sum((-1, -2))

    together = search(planner, score(slice(None)), start, proposals=proposals)
    for number in range(BATCH):
        row = slice(number, number + 1)
        alone = search(planner, score(row), start[row], seed=number, proposals=proposals[row])
        torch.testing.assert_close(together.actions[row], alone.actions, atol=1e-6, rtol=0)
        torch.testing.assert_close(together.elites[row], alone.elites, atol=1e-6, rtol=0)
        torch.testing.assert_close(together.value[row], alone.value, atol=1e-6, rtol=1e-6)


@every_planner
def test_a_proposal_wins_if_no_drawn_candidate_has_a_return(planner: Planner) -> None:
    def needle(actions: Tensor) -> Tensor:
        returns = parabola(actions)
        return returns.masked_fill(returns < -0.01, torch.nan)

    blind = search(planner, needle, BLIND)
    torch.testing.assert_close(blind.actions, BLIND)
    proposals = torch.stack([BLIND[0], TOP + 0.01, -BLIND[0]])[None]
    led = search(planner, needle, BLIND, proposals=proposals)
    assert farthest(led.actions) < 0.05
    assert farthest(led.elites) < 0.1  # only scored actions are among the elites


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_proposals_are_scored_once_and_compete_to_the_end(name: str) -> None:
    """If only the proposals have a finite return, they are the last elites."""
    planner = dataclasses.replace(SAMPLERS[name], elites=2)
    proposals = torch.stack([TOP + 0.01, TOP - 0.02])[None]
    scored: list[int] = []

    def score(actions: Tensor) -> Tensor:
        scored.append(actions.shape[1])
        is_proposal = (actions[:, :, None] == proposals[:, None]).all(-1).all(-1).any(-1)
        return parabola(actions).masked_fill(~is_proposal, -torch.inf)

    result = search(planner, score, BLIND, proposals=proposals)
    assert scored == [80] + [78] * (planner.iterations - 1)
    torch.testing.assert_close(result.elites, proposals)
    torch.testing.assert_close(result.value, parabola(proposals).mean(1))


@every_planner
def test_every_scored_or_returned_sequence_is_allowed(planner: Planner) -> None:
    limit = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None, None]  # each row has its own
    scored = 0

    def project(candidates: Tensor) -> Tensor:
        return candidates.clamp(-limit, limit)

    def score(actions: Tensor) -> Tensor:
        nonlocal scored
        scored += 1
        assert (actions.abs() <= limit).all()
        return parabola(actions)

    start = torch.ones(BATCH, LENGTH, ACTIONS)
    proposals = torch.full((BATCH, 2, LENGTH, ACTIONS), -7.0)
    result = search(planner, score, start, proposals=proposals, project=project)
    assert scored
    assert (result.actions.abs() <= limit[:, 0]).all()
    assert (result.elites.abs() <= limit).all()
    nothing = search(planner, score, start, project=project, asks=0)
    assert (nothing.actions.abs() <= limit[:, 0]).all()
    assert (nothing.elites.abs() <= limit).all()


@every_planner
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_region_without_a_finite_return_is_avoided(planner: Planner, bad: float) -> None:
    def fenced(actions: Tensor) -> Tensor:
        """The maximum is in the region without finite returns: TOP[0, 0] is 0.7."""
        return parabola(actions).masked_fill(actions[..., 0, 0] > 0.2, bad)

    result = search(planner, fenced)
    assert result.actions.isfinite().all()
    assert result.actions[0, 0, 0] <= 0.2
    assert (result.elites[..., 0, 0] <= 0.2).all()
    assert result.value.isfinite().all()


@every_planner
def test_a_score_that_is_never_finite_does_not_change_the_plan(planner: Planner) -> None:
    start = torch.full((BATCH, LENGTH, ACTIONS), 0.25)
    result = search(planner, lambda actions: parabola(actions) * torch.nan, start)
    torch.testing.assert_close(result.actions, start)
    assert result.elites.isfinite().all()
    assert (result.value == -torch.inf).all()


@every_planner
def test_a_search_without_finite_returns_does_not_change_others_of_its_batch(
    planner: Planner,
) -> None:
    def score(actions: Tensor) -> Tensor:
        return parabola(actions) * torch.tensor([[torch.nan], [1.0]])

    result = search(planner, score, torch.zeros(2, LENGTH, ACTIONS))
    alone = search(planner, parabola, seed=1)
    torch.testing.assert_close(result.actions[1:], alone.actions, atol=1e-6, rtol=0)
    assert (result.actions[0] == 0).all()


@every_planner
def test_a_proposal_that_is_not_finite_changes_no_other(planner: Planner) -> None:
    proposals = torch.full((1, 2, LENGTH, ACTIONS), torch.nan)
    result = search(planner, lambda a: parabola(a.nan_to_num()), proposals=proposals)
    assert result.actions.isfinite().all()
    assert result.elites.isfinite().all()


@every_planner
@pytest.mark.parametrize("asks", [0, 1, 2, 5])
def test_the_clock_limits_the_number_of_iterations(planner: Planner, asks: int) -> None:
    if isinstance(planner, Refined):
        planner = Refined(planner.first, dataclasses.replace(planner.then, iterations=3))
        asks = min(asks, planner.first.iterations)  # once out, the clock is asked once more
    scored = 0

    def score(actions: Tensor) -> Tensor:
        nonlocal scored
        scored += 1
        return parabola(actions)

    start = torch.full((BATCH, LENGTH, ACTIONS), 0.25)
    result = search(planner, score, start, asks=asks)
    assert result.iterations == scored == asks
    if asks == 0:
        torch.testing.assert_close(result.actions, start)
        torch.testing.assert_close(result.elites, start[:, None])
        assert result.value.isnan().all()


@every_planner
def test_without_a_deadline_every_iteration_is_done(planner: Planner) -> None:
    planned = (
        planner.first.iterations + planner.then.iterations
        if isinstance(planner, Refined)
        else planner.iterations
    )
    assert search(planner, parabola).iterations == planned


@pytest.mark.parametrize("name", ["icem", "shooting", "gradient"])
def test_more_time_is_never_worse_if_elites_are_kept(name: str) -> None:
    planner = PLANNERS[name]
    if isinstance(planner, ICEM):
        planner = dataclasses.replace(planner, elites_kept=1.0)
    values = [search(planner, parabola, asks=asks).value for asks in range(1, 9)]
    assert all(later >= earlier for earlier, later in pairwise(values))
    assert values[-1] > values[0]


@pytest.mark.parametrize("name", ["cem", "mppi", "refined"])
def test_the_last_iteration_is_far_better_than_the_first(name: str) -> None:
    first, last = (search(PLANNERS[name], parabola, asks=asks).value for asks in (1, 99))
    assert last > first / 4  # both are negative


@every_planner
def test_the_same_seed_gives_the_same_answer(planner: Planner) -> None:
    one, same, other = (search(planner, parabola, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.actions, same.actions, atol=0, rtol=0)
    assert not torch.equal(one.elites, other.elites)


@every_planner
def test_the_global_seed_is_left_alone(planner: Planner) -> None:
    before = torch.random.get_rng_state()
    search(planner, parabola)
    assert torch.equal(torch.random.get_rng_state(), before)


@every_planner
def test_a_search_runs_in_inference_mode(planner: Planner) -> None:
    with torch.inference_mode():
        inside = search(planner, parabola, BLIND.clone(), proposals=torch.zeros(1, 1, 3, 2))
    outside = search(planner, parabola, BLIND, proposals=torch.zeros(1, 1, 3, 2))
    torch.testing.assert_close(inside.actions, outside.actions)
    assert not outside.actions.requires_grad
    assert not outside.elites.requires_grad


@every_planner
def test_the_dtype_follows_the_start(planner: Planner) -> None:
    result = search(planner, parabola, torch.zeros(1, LENGTH, ACTIONS, dtype=torch.float64))
    assert result.actions.dtype == result.elites.dtype == result.value.dtype == torch.float64


@every_planner
def test_inputs_of_a_wrong_shape_are_named(planner: Planner) -> None:
    with pytest.raises(ValueError, match="proposals: expected fewer than"):
        search(planner, parabola, proposals=torch.zeros(1, 5000, LENGTH, ACTIONS))
    with pytest.raises(ValueError, match=r"proposals: expected \[B, any, L, A\]"):
        search(planner, parabola, proposals=torch.zeros(1, LENGTH, ACTIONS))
    with pytest.raises(ValueError, match="score: expected returns of shape"):
        search(planner, lambda actions: parabola(actions).mean(1))
    with pytest.raises(
        ValueError, match="generators: expected one for each search of a batch of 1"
    ):
        planner.search(
            parabola,
            torch.zeros(1, LENGTH, ACTIONS),
            proposals=None,
            generators=[],
            project=box,
            out_of_time=lambda: False,
        )


# Limits inside the search


@every_planner
def test_scored_and_returned_actions_keep_the_limits_exactly(planner: Planner) -> None:
    low, high, change = (
        torch.tensor([-0.3, -1.0]),
        torch.tensor([0.7, 0.1]),
        torch.tensor([0.1, 0.3]),
    )
    last = torch.tensor([[0.7, -0.2], [0.123, 0.0]])
    start = torch.ones(2, LENGTH, ACTIONS)
    limits = Limits(low, high, change)

    def assert_kept(actions: Tensor) -> None:
        """Computed in double precision, which rounds nothing here: [B, N, L, A]"""
        rows = torch.cat([last[:, None, None].expand(-1, actions.shape[1], 1, -1), actions], 2)
        assert (rows.double().diff(dim=2).abs() <= change.double()).all()
        assert ((actions >= low) & (actions <= high)).all()

    def score(actions: Tensor) -> Tensor:
        assert_kept(actions)
        return parabola(actions)

    proposals = torch.full((2, 2, LENGTH, ACTIONS), -7.0)
    project = projection_into(limits, start, last)
    for asks in (math.inf, 1, 0):
        result = search(planner, score, start, proposals=proposals, project=project, asks=asks)
        assert_kept(result.actions[:, None])
        assert_kept(result.elites)


@every_planner
def test_a_search_within_a_change_limit_beats_clipping_afterwards(
    planner: Planner,
) -> None:
    """The target is 0, 0, 1 after a last action of 0; a step changes by 0.4 at most.

    Clipping the target gives 0, 0, 0.4, which costs 0.36. The best is 0, 0.3, 0.7, which costs
    0.18: the minimum of x^2 + (x + 0.4 - 1)^2 is at x = 0.3.
    """
    target = torch.tensor([0.0, 0.0, 1.0])[:, None].expand(-1, ACTIONS)

    def score(actions: Tensor) -> Tensor:
        return -(actions - target).square().sum((-1, -2))

    start = torch.zeros(1, LENGTH, ACTIONS)
    project = projection_into(Limits(max_change=0.4), start, torch.zeros(ACTIONS))
    clipped = project(target[None, None])
    torch.testing.assert_close(score(clipped), torch.full((1, 1), -0.36 * ACTIONS))
    paid = -score(search(planner, score, start, project=project).actions[:, None]).item() / ACTIONS
    if isinstance(planner, (Gradient, Refined)):
        assert paid < 0.181
    elif isinstance(planner, Shooting):
        assert paid < 0.33
    else:  # independent Gaussians of the actions come near to the best
        assert paid < 0.25


def test_a_change_counts_from_the_last_action_clipped_to_the_limits() -> None:
    start = torch.zeros(1, 3, 1)
    project = projection_into(
        Limits(low=-0.5, high=0.5, max_change=0.25), start, torch.tensor([0.9])
    )
    target = torch.tensor([-1.0, -1.0, 1.0])[None, None, :, None]
    torch.testing.assert_close(project(target)[0, 0, :, 0], torch.tensor([0.25, 0.0, 0.25]))
    again = project(project(target))
    assert torch.equal(again, project(target))  # allowed actions do not change


def test_limits_without_a_change_need_no_last_action() -> None:
    start = torch.zeros(2, 3, 2)
    limits = Limits(low=[-0.5, 0.0], high=torch.tensor([[0.5, 1.0], [0.1, 0.2]]))
    project = projection_into(limits, start, None)
    target = torch.ones(2, 4, 3, 2)
    assert torch.equal(project(target)[:, 0, 0], torch.tensor([[0.5, 1.0], [0.1, 0.2]]))
    assert torch.equal(project(-target)[:, 0, 0], torch.tensor([[-0.5, 0.0], [-0.5, 0.0]]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"low": -2}, r"limits: low, high: expected numbers in the agent's \[-1, 1\], got -2.0"),
        ({"high": math.nan}, "limits: low, high: expected numbers in the agent's"),
        ({"low": 0.5, "high": 0.2}, "limits: expected low <= high, got 0.5 and 0.2"),
        ({"max_change": 0}, "limits: max_change: expected more than 0, got 0.0"),
        ({"max_change": "slow"}, "limits: max_change: expected numbers, got 'slow'"),
        ({"last": [0.0, math.nan]}, "limits: after: expected a finite action"),
        (
            {"high": [0.1, 0.2, 0.3]},
            r"limits: high: expected one number, \[2\] or \[1, 2\], got \[3",
        ),
        ({"max_change": 0.1}, r"limits: max_change needs the action that was done last"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        projection_into(Limits(**given), torch.zeros(1, LENGTH, ACTIONS), None)


def test_limits_say_only_what_limits() -> None:
    assert repr(Limits()) == "Limits()"
    assert repr(Limits(high=[0.5, 1.0], allowed=math.isnan).after([0.25, 0.0])) == (
        "Limits(high=[0.5, 1.0], allowed=isnan, last=[0.25, 0.0])"
    )


# Deadlines inside an iteration


@every_planner
def test_slices_change_nothing_where_there_is_time(planner: Planner) -> None:
    whole, sliced = (search(planner, parabola, slice_size=size) for size in (None, 7))
    torch.testing.assert_close(sliced.actions, whole.actions, atol=1e-6, rtol=0)
    assert sliced.iterations == whole.iterations


@every_planner
def test_an_iteration_cut_short_uses_the_candidates_already_scored(planner: Planner) -> None:
    """The time is up after ten candidates were scored: two slices of five."""
    scored: list[Tensor] = []

    def score(actions: Tensor) -> Tensor:
        scored.append(actions.detach())
        return parabola(actions)

    proposals = torch.stack([BLIND[0], TOP, -BLIND[0]])[None]
    start = torch.full((1, LENGTH, ACTIONS), 0.9)
    if isinstance(planner, Gradient):
        planner = dataclasses.replace(planner, candidates=16)
    result = search(planner, score, start, proposals=proposals, asks=2, slice_size=5)
    assert [part.shape[1] for part in scored] == [5, 5]
    assert result.iterations == 0
    seen = torch.cat(scored, 1)
    assert result.value.isfinite()
    assert ((result.elites[:, :, None] == seen[:, None]).all((-1, -2)).any(2)).all()
    assert torch.equal(result.elites[0, 0], TOP)  # the best of the ten
    assert parabola(result.actions) > parabola(start)
    assert result.actions.isfinite().all()


@every_planner
def test_a_part_of_an_iteration_improves_the_plan(planner: Planner) -> None:
    """Half of a second iteration improves the mean value over many seeds."""
    if isinstance(planner, (Refined, Gradient)):
        pytest.skip("their second iteration is one small step")
    size = planner.candidates // 4  # type: ignore[attr-defined]

    def mean_value(asks: int) -> float:
        result = [
            search(planner, parabola, BLIND, seed=seed, asks=asks, slice_size=size)
            for seed in range(12)
        ]
        return sum(float(parabola(each.actions)) for each in result) / 12

    first_whole, half_more = mean_value(4), mean_value(6)
    assert half_more > first_whole


class Ticking:
    """A clock that advances only when work is done."""

    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


def test_a_deadline_stops_work_that_would_end_too_late() -> None:
    clock = Ticking()
    deadline = Deadline(clock, 7.0, 10.0)
    assert not deadline()
    clock.now += 0.003
    assert not deadline()  # at 3 ms, 3 ms more end in time
    clock.now += 0.004
    assert deadline()  # at 7 ms, 4 ms more end too late
    assert deadline()
    assert Deadline(clock, 7.0, 0.0)()
    expected = Deadline(clock, clock.now, 10.0, slice_s=0.009)
    assert not expected()  # the first slice should take 9 ms
    clock.now += 0.002
    assert expected()
    assert expected.allows(0.0079)
    assert not expected.allows(0.0081)
    never = Deadline(clock, 7.0, None)
    clock.now += 1e9
    assert not never()
    assert never.allows(1e9)


@every_planner
@pytest.mark.parametrize("deadline_ms", [0.5, 4.0, 11.0, 23.0])
def test_a_search_ends_before_its_deadline_or_after_its_first_slice(
    planner: Planner, deadline_ms: float
) -> None:
    """A slice of at most 8 candidates takes 1 ms, a smaller one less."""
    clock = Ticking()

    def score(actions: Tensor) -> Tensor:
        clock.now += actions.shape[1] / 8e3
        return parabola(actions)

    result = planner.search(
        score,
        torch.zeros(1, LENGTH, ACTIONS),
        proposals=None,
        generators=[torch.Generator()],
        project=box,
        out_of_time=Deadline(clock, 7.0, deadline_ms),
        slice_size=8,
    )
    took_ms = (clock.now - 7.0) * 1e3
    assert 0 < took_ms <= max(deadline_ms, 1.0) + 1e-6
    assert took_ms > deadline_ms - 2.1 or result.iterations  # it does not stop long before
    assert result.value.isfinite()


# Linear-quadratic problems: x' = F x + G u, cost x'x + u'u / 2 at each step, x'x at the end


@dataclasses.dataclass(frozen=True)
class LinearQuadratic:
    carry: Tensor  # [S, S]
    drive: Tensor  # [S, A]
    state: Tensor  # [S]

    def dynamics(self, state: Tensor, action: Tensor) -> Tensor:
        return state @ self.carry.mT + action @ self.drive.mT

    def cost(self, state: Tensor, action: Tensor) -> Tensor:
        return state.square().sum(-1) + action.square().sum(-1) / 2

    def final_cost(self, state: Tensor) -> Tensor:
        return state.square().sum(-1)

    def total(self, actions: Tensor) -> Tensor:
        """[..., L, A] -> [...]"""
        state, total = self.state, torch.zeros(())
        for action in actions.unbind(-2):
            total = total + self.cost(state, action)
            state = self.dynamics(state, action)
        return total + self.final_cost(state)

    def riccati(self, length: int) -> Tensor:
        """The best actions: [L, A]"""
        value, gains = torch.eye(len(self.state), dtype=torch.float64), []
        for _ in range(length):
            ahead = self.drive.mT @ value
            half = torch.eye(self.drive.shape[1], dtype=torch.float64) / 2
            gains.append(torch.linalg.solve(half + ahead @ self.drive, ahead @ self.carry))
            value = self.carry.mT @ value @ (self.carry - self.drive @ gains[-1])
            value = value + torch.eye(len(self.state), dtype=torch.float64)
        state, actions = self.state, []
        for gain in reversed(gains):
            actions.append(-gain @ state)
            state = self.dynamics(state, actions[-1])
        return torch.stack(actions)

    @classmethod
    def random(cls, state_size: int, action_size: int, seed: int) -> LinearQuadratic:
        """A stable problem, scaled so that the largest of the best actions is 0.8."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        carry = normal(state_size, state_size)
        carry = 0.9 * carry / torch.linalg.eigvals(carry).abs().max()
        problem = cls(carry, normal(state_size, action_size), normal(state_size))
        largest = problem.riccati(10).abs().max()
        return dataclasses.replace(problem, state=0.8 * problem.state / largest)


LOOK_AHEAD = 10


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("planner", "percent"),
    [
        (CEM(horizon=LOOK_AHEAD, iterations=10, candidates=200, elites=20, initial_std=1.0), 2),
        (
            MPPI(
                horizon=LOOK_AHEAD,
                iterations=15,
                candidates=300,
                elites=50,
                temperature=0.5,
                min_std=0.05,
                initial_std=1.0,
            ),
            2,
        ),
        (
            ICEM(
                horizon=LOOK_AHEAD,
                iterations=10,
                candidates=200,
                elites=10,
                initial_std=0.5,
                noise_exponent=0.5,
                elites_kept=0.3,
                decay=0.8,
                momentum=0.1,
            ),
            2,
        ),
        (
            Gradient(
                horizon=LOOK_AHEAD, iterations=60, candidates=4, elites=2, initial_std=0.5, rate=0.1
            ),
            1,
        ),
        (Shooting(horizon=LOOK_AHEAD, iterations=10, candidates=1000, elites=10), 20),
    ],
    ids=["cem", "mppi", "icem", "gradient", "shooting"],
)
def test_a_linear_quadratic_problem_is_solved_nearly(
    planner: Planner, percent: float, seed: int
) -> None:
    problem = LinearQuadratic.random(2, 1, seed=1)
    best = problem.total(problem.riccati(LOOK_AHEAD))
    start = torch.zeros(1, LOOK_AHEAD, 1, dtype=torch.float64)
    assert problem.total(start) > 1.4 * best  # the start itself would fail the next check
    result = search(planner, lambda actions: -problem.total(actions), start, seed=seed)
    assert best <= problem.total(result.actions) < (1 + percent / 100) * best


def solve(problem: LinearQuadratic, start: Tensor, *, iterations: int = 1) -> Search:
    """Solve with iLQR, without limits."""
    return ilqr(
        problem.dynamics,
        problem.cost,
        problem.final_cost,
        problem.state.expand(len(start), -1),
        start,
        iterations=iterations,
        low=-math.inf,
        high=math.inf,
        out_of_time=lambda: False,
    )


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 12)),
    seed=st.integers(0, 10_000),
)
def test_ilqr_equals_the_riccati_solution_in_one_iteration(
    sizes: tuple[int, int, int], seed: int
) -> None:
    state_size, action_size, length = sizes
    problem = LinearQuadratic.random(state_size, action_size, seed)
    best = problem.riccati(length)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, length, action_size, generator=generator, dtype=torch.float64)
    result = solve(problem, start)
    torch.testing.assert_close(result.actions, best.expand_as(start), atol=1e-6, rtol=1e-6)
    total = problem.total(best).expand(2)
    torch.testing.assert_close(result.value, -total, atol=1e-6, rtol=1e-6)


def test_ilqr_within_limits_finds_what_projected_gradient_finds() -> None:
    problem = LinearQuadratic.random(3, 2, seed=0)
    limit = 0.3  # the free solution reaches 0.8

    def within(candidates: Tensor) -> Tensor:
        return candidates.clamp(-limit, limit)

    start = torch.zeros(1, LOOK_AHEAD, 2, dtype=torch.float64)
    climb = Gradient(
        horizon=LOOK_AHEAD, iterations=800, candidates=2, elites=1, initial_std=0.1, rate=0.05
    )
    climbed = search(climb, lambda actions: -problem.total(actions), start, project=within)
    result = ilqr(
        problem.dynamics,
        problem.cost,
        problem.final_cost,
        problem.state[None],
        start,
        iterations=20,
        low=-limit,
        high=limit,
        out_of_time=lambda: False,
    )
    assert result.actions.abs().max() <= limit
    assert (result.actions.abs() == limit).any()
    torch.testing.assert_close(result.actions, climbed.actions, atol=2e-3, rtol=0)
    assert -result.value <= problem.total(climbed.actions) + 1e-9


def swing(state: Tensor, action: Tensor) -> Tensor:
    """A pendulum that hangs at angle 0; its motor is too weak to lift it without swinging."""
    angle, speed = state.unbind(-1)
    speed = speed + 0.15 * (1.2 * action[..., 0] - 2.0 * torch.sin(angle))
    return torch.stack([angle + 0.15 * speed, speed], -1)


def swing_up(iterations: int, start: Tensor, *, asks: float = math.inf) -> Search:
    asked = 0

    def out_of_time() -> bool:
        nonlocal asked
        asked += 1
        return asked > asks

    return ilqr(
        swing,
        lambda state, action: 0.01 * action.square().sum(-1) + 0.05 * torch.cos(state[0]),
        lambda state: 20 * (1 + torch.cos(state[0])) + state[1].square(),
        torch.zeros(len(start), 2),
        start,
        iterations=iterations,
        low=-1.0,
        high=1.0,
        out_of_time=out_of_time,
    )


def test_ilqr_swings_a_pendulum_up_and_improves_with_iterations() -> None:
    shake = torch.Generator().manual_seed(0)
    start = 0.3 * torch.randn(BATCH, 40, 1, generator=shake)
    result = [swing_up(iterations, start) for iterations in (1, 4, 16, 64)]
    assert all((later.value >= earlier.value).all() for earlier, later in pairwise(result))
    actions = result[-1].actions
    assert actions.abs().max() <= 1

    def heights(actions: Tensor) -> Tensor:
        """The height of the pendulum's end over time, from -1 to 1: [B, L]"""
        state, seen = torch.zeros(len(actions), 2), []
        for action in actions.unbind(1):
            state = swing(state, action)
            seen.append(-torch.cos(state[:, 0]))
        return torch.stack(seen, 1)

    assert (heights(actions)[:, -1] > 0.99).all()
    assert heights(torch.ones(1, 40, 1)).max() < 0  # a constant push does not lift it


def test_a_batch_of_four_ilqr_searches_is_four_single_ones() -> None:
    start = 0.3 * torch.randn(BATCH, 20, 1, generator=torch.Generator().manual_seed(1))
    together = swing_up(5, start)
    for row in range(BATCH):
        alone = swing_up(5, start[row : row + 1])
        torch.testing.assert_close(together.actions[row], alone.actions[0], atol=1e-4, rtol=0)


def test_ilqr_stops_when_the_clock_does() -> None:
    start = torch.full((1, 5, 1), 2.0)
    assert swing_up(9, start, asks=3).iterations == 3
    nothing = swing_up(9, start, asks=0)
    assert nothing.iterations == 0
    assert (nothing.actions == 1).all()  # the start, clipped to the limits
    assert nothing.value.isnan().all()


def test_ilqr_in_inference_mode_is_ilqr() -> None:
    start = torch.full((1, 5, 1), 0.1)
    with torch.inference_mode():
        inside = swing_up(3, start.clone())
    torch.testing.assert_close(inside.actions, swing_up(3, start).actions)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_ilqr_returns_its_start_if_the_model_is_not_finite(bad: float) -> None:
    start = torch.full((1, 5, 1), 0.1)
    result = ilqr(
        lambda state, action: state * bad + action,
        lambda state, action: action.square().sum(-1),
        lambda state: state.square().sum(-1),
        torch.ones(1, 1),
        start,
        iterations=3,
        low=-1.0,
        high=1.0,
        out_of_time=lambda: False,
    )
    torch.testing.assert_close(result.actions, start)
    assert (result.value == -math.inf).all()


def test_ilqr_leaves_a_saddle_downhill() -> None:
    """The cost cos(3 u) is concave at 0.1: a Newton step would go to its maximum at 0."""
    result = ilqr(
        lambda state, action: state,
        lambda state, action: torch.cos(3 * action).sum(-1),
        lambda state: state.sum(-1),
        torch.zeros(1, 1),
        torch.full((1, 1, 1), 0.1),
        iterations=15,
        low=-2.0,
        high=2.0,
        out_of_time=lambda: False,
    )
    torch.testing.assert_close(result.value, torch.ones(1), atol=1e-4, rtol=0)


# Single planners


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_the_stated_slope_and_unit_size(exponent: float) -> None:
    length = 64
    colour = colouring(torch.zeros(1, length, 1, dtype=torch.float64), exponent)
    white = torch.zeros(1, 4000, length, 1, dtype=torch.float64)
    noise = colour @ draw(white, [torch.Generator().manual_seed(0)])  # [1, N, L, 1]
    assert noise.std(correction=0) == pytest.approx(1.0, abs=0.02)
    power = torch.fft.rfft(noise[0, ..., 0]).abs().square().mean(0)[1:-1]
    frequency = torch.fft.rfftfreq(length, dtype=torch.float64)[1:-1]
    across, up = frequency.log(), power.log()
    across, up = across - across.mean(), up - up.mean()
    slope = (across @ up) / (across @ across)
    assert slope == pytest.approx(-exponent, abs=0.03)


def test_white_noise_stays_as_it_was_drawn() -> None:
    for length in (1, 2, 5, 6):
        colour = colouring(torch.zeros(1, length, 1, dtype=torch.float64), 0.0)
        torch.testing.assert_close(colour, torch.eye(length, dtype=torch.float64))


def test_noise_of_one_step_can_have_any_colour() -> None:
    torch.testing.assert_close(colouring(torch.zeros(1, 1, 1), 2.0), torch.ones(1, 1))


def test_icem_imagines_fewer_candidates_each_time_and_never_too_few() -> None:
    planner = dataclasses.replace(SAMPLERS["icem"], decay=0.5, iterations=5)
    sizes = []

    def score(actions: Tensor) -> Tensor:
        sizes.append(actions.shape[1])
        return parabola(actions)

    search(planner, score)
    assert sizes == [80, 40, 20, 20, 20]


@pytest.mark.parametrize(("iterations", "is_there"), [(2, True), (3, False)])
def test_icem_tries_the_mean_of_its_elites_in_the_last_iteration(
    iterations: int, is_there: bool
) -> None:
    planner = dataclasses.replace(SAMPLERS["icem"], iterations=iterations, momentum=0.0)
    seen = []

    def score(actions: Tensor) -> Tensor:
        seen.append(actions)
        return parabola(actions)

    search(planner, score)
    first = seen[0][0]
    mean = first[parabola(first).topk(10).indices].mean(0)
    assert torch.isclose(seen[1][0], mean).all(-1).all(-1).any() == is_there


def test_cem_refits_by_mean_and_population_standard_deviation() -> None:
    """Only two proposals have finite returns, so mean and standard deviation are known."""
    planner = CEM(horizon=1, iterations=2, candidates=2000, elites=2, initial_std=1.0)
    seen = []

    def two_needles(actions: Tensor) -> Tensor:
        seen.append(actions)
        returns = -actions.abs().sum((-1, -2))
        return returns.masked_fill((actions.abs() != 0.5).any(-1).any(-1), torch.nan)

    proposals = torch.tensor([-0.5, 0.5])[None, :, None, None]
    result = search(
        planner,
        two_needles,
        torch.full((1, 1, 1), 0.3),
        proposals=proposals,
        project=torch.clone,
    )
    assert result.actions.abs().max() < 1e-6
    fresh = seen[1][0, 2:]
    assert fresh.mean() == pytest.approx(0.0, abs=0.05)
    assert fresh.std() == pytest.approx(0.5, abs=0.05)  # the unbiased one would be 0.71


def test_mppi_weighs_its_elites_by_their_returns() -> None:
    """Only two proposals have finite returns; one is better by log(3) / temperature."""
    planner = MPPI(
        horizon=1,
        iterations=1,
        candidates=50,
        elites=2,
        temperature=2.0,
        min_std=0.1,
        initial_std=1.0,
    )

    def two_needles(actions: Tensor) -> Tensor:
        place = actions[..., 0, 0]
        returns = torch.where(place > 0, math.log(3) / 2, 0.0)
        return returns.masked_fill(place.abs() != 0.5, torch.nan)

    proposals = torch.tensor([-0.5, 0.5])[None, :, None, None]
    result = search(planner, two_needles, torch.zeros(1, 1, 1), proposals=proposals)
    assert result.actions.item() == pytest.approx(0.75 * 0.5 - 0.25 * 0.5)
    better_by_1000 = search(
        planner, lambda a: two_needles(a) * 2000, torch.zeros(1, 1, 1), proposals=proposals
    )
    assert better_by_1000.actions.item() == pytest.approx(0.5)


def test_the_gradient_planner_converges_on_a_ridge() -> None:
    climb = Gradient(
        horizon=LENGTH, iterations=100, candidates=1, elites=1, initial_std=0.5, rate=0.2
    )
    result = search(climb, lambda actions: -(actions - TOP).abs().sum((-1, -2)))
    assert farthest(result.actions) < 0.01


def test_an_action_without_a_finite_gradient_stays_and_the_others_move() -> None:
    def broken_at_zero(actions: Tensor) -> Tensor:
        return parabola(actions) + 0 * actions[..., 0, 0].sqrt()

    result = search(dataclasses.replace(CLIMB, candidates=1, elites=1), broken_at_zero)
    assert result.actions[0, 0, 0] == 0
    assert farthest(result.actions[0, 1:], TOP[1:]) < 0.05


def test_a_score_without_a_gradient_is_refused_with_the_planners_that_need_none() -> None:
    with pytest.raises(ValueError, match="cem, icem and mppi do not"):
        search(CLIMB, lambda actions: parabola(actions.detach()))


def test_refining_is_never_worse_and_needs_time_of_its_own() -> None:
    refined = PLANNERS["refined"]
    assert isinstance(refined, Refined)
    first = search(refined.first, parabola)
    both = search(refined, parabola)
    assert parabola(both.actions) > parabola(first.actions)
    assert both.iterations == refined.first.iterations + refined.then.iterations
    rushed = search(refined, parabola, asks=refined.first.iterations)
    torch.testing.assert_close(rushed.actions, first.actions)
    torch.testing.assert_close(rushed.value, first.value)


def test_refining_over_another_horizon_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one horizon, got 7 and 3"):
        Refined(dataclasses.replace(SAMPLERS["cem"], horizon=7), CLIMB)


CHOICES = torch.tensor([2, 0, 1, 1, 2, 0, 0, 2])  # [L] of three
CHOOSER = CategoricalCEM(horizon=8, iterations=8, candidates=100, elites=10, floor=0.05)


def matches(actions: Tensor) -> Tensor:
    """How many steps choose as CHOICES does; every candidate must be one-hot."""
    assert ((actions == 0) | (actions == 1)).all()
    assert (actions.sum(-1) == 1).all()
    return actions[..., torch.arange(8), CHOICES].sum(-1)


def test_the_best_of_6561_sequences_of_choices_is_found() -> None:
    result = search(CHOOSER, matches, torch.zeros(BATCH, 8, 3))
    assert (result.actions.argmax(-1) == CHOICES).all()
    flipped = search(CHOOSER, lambda actions: -matches(actions), torch.zeros(BATCH, 8, 3))
    assert (flipped.actions.argmax(-1) != CHOICES).all()


def test_a_batch_of_four_searches_among_choices_is_four_single_ones() -> None:
    short = dataclasses.replace(CHOOSER, iterations=2)
    together = search(short, matches, torch.zeros(BATCH, 8, 3))
    for row in range(BATCH):
        alone = search(short, matches, torch.zeros(1, 8, 3), seed=row)
        assert torch.equal(together.actions[row], alone.actions[0])


def test_one_elite_does_not_end_the_search_among_choices() -> None:
    seen = []

    def score(actions: Tensor) -> Tensor:
        seen.append(actions)
        return matches(actions)

    search(dataclasses.replace(CHOOSER, elites=1, iterations=2), score, torch.zeros(1, 8, 3))
    elite = seen[0][0, matches(seen[0])[0].argmax()]
    differs = (seen[1][0, 1:] != elite).any(-1).float().mean()
    assert differs == pytest.approx(0.05 * 2 / 3, abs=0.02)


def test_a_proposed_sequence_of_choices_wins_if_none_drawn_has_a_return() -> None:
    def all_or_nothing(actions: Tensor) -> Tensor:
        count = matches(actions)
        return count.masked_fill(count < 8, torch.nan)

    start = torch.nn.functional.one_hot(torch.zeros(1, 8, dtype=torch.long), 3).float()
    tiny = dataclasses.replace(CHOOSER, candidates=20, iterations=2)
    assert torch.equal(search(tiny, all_or_nothing, start).actions, start)
    proposals = torch.nn.functional.one_hot(CHOICES, 3).float()[None, None]
    led = search(tiny, all_or_nothing, start, proposals=0.6 * proposals)
    assert (led.actions.argmax(-1) == CHOICES).all()


def test_without_time_the_choices_are_those_of_the_start() -> None:
    start = torch.zeros(1, 8, 3)
    start[..., 1] = 0.4
    result = search(CHOOSER, matches, start, asks=0)
    assert (result.actions.argmax(-1) == 1).all()
    assert (result.actions.sum(-1) == 1).all()
    assert result.value.isnan().all()


def test_choices_that_are_ruled_out_are_never_made() -> None:
    def never_two(candidates: Tensor) -> Tensor:
        zero = candidates[..., :1] + candidates[..., 2:]
        return torch.cat([zero, candidates[..., 1:2], torch.zeros_like(zero)], -1)

    result = search(CHOOSER, matches, torch.zeros(1, 8, 3), project=never_two)
    assert (result.actions[..., 2] == 0).all()
    assert (result.elites[..., 2] == 0).all()
    free = CHOICES != 2
    assert (result.actions.argmax(-1)[:, free] == CHOICES[free]).all()


def test_a_planner_of_another_kind_keeps_the_numbers_that_both_have() -> None:
    mppi = MPPI(horizon=5, iterations=4, candidates=30, elites=3, initial_std=0.7, min_std=0.2)
    cem = of_kind("cem", mppi)
    assert cem == CEM(horizon=5, iterations=4, candidates=30, elites=3, initial_std=0.7)
    assert of_kind("shooting", cem) == Shooting(horizon=5, iterations=4, candidates=30, elites=3)
    assert over_choices(cem) == CategoricalCEM(5, 4, 30, 3, floor=0.05)
    with pytest.raises(ConfigError, match=r"planner.kind: expected one of cem, icem, .*'cemm'"):
        of_kind("cemm", mppi)
