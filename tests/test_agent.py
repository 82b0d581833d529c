from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, Answer
from worldmodel.agent import ROWS_AT_REST, Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.images import fit_image
from worldmodel.models import WorldModel, build
from worldmodel.models.imagination import Imagination
from worldmodel.origin import Origin
from worldmodel.planners import Limits
from worldmodel.planning import ImaginedReturn, propose
from worldmodel.presets import load_preset
from worldmodel.scores import RewardSum
from worldmodel.sizing import within
from worldmodel.structs import Latent, Plan, Spec, at, each
from worldmodel.timing import PlanTiming, measure


@pytest.fixture(params=["mppi", "cem", "icem", "shooting", "gradient"])
def agent(request: pytest.FixtureRequest, model: WorldModel, tiny: Config) -> Agent:
    for parameter in model.reward.parameters():  # so that returns differ between actions
        torch.nn.init.normal_(parameter)
    settings = {
        "planner": {**TINY["planner"], "kind": request.param},
        "planning": {"sampled": request.param == "cem"},
    }
    return agent_of(read(tiny, settings), model.requires_grad_(False))


def images(*batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*batch, 16, 16, 3), np.uint8)


def assert_same(one: Latent, other: Latent) -> None:
    torch.testing.assert_close(one.features, other.features)


def test_four_robots_believe_and_plan_as_four_single_ones(agent: Agent) -> None:
    seen = images(4)
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 2)).astype(np.float32)
    together = agent.observe(agent.initial(4), actions, seen)
    plan = agent.plan(together, seed=[3, 9, 4, 1])
    again = agent.plan(together, previous=plan, seed=[5, 6, 7, 8])
    for row, (first, second) in enumerate(zip([3, 9, 4, 1], [5, 6, 7, 8], strict=True)):
        alone = agent.observe(agent.initial(), actions[row], seen[row], seed=row)
        assert_same(alone, at(together, row))
        single = agent.plan(alone, seed=first)
        torch.testing.assert_close(single.actions, plan.actions[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(single.value, plan.value[row], rtol=1e-4, atol=1e-5)
        later = agent.plan(alone, previous=single, seed=second)
        torch.testing.assert_close(later.actions, again.actions[row], rtol=1e-4, atol=1e-4)


def test_a_plan_has_its_shape_and_stays_in_its_limits(agent: Agent) -> None:
    plan = agent.plan(agent.initial())
    assert plan.actions.shape == (4, 2)
    assert plan.elites.shape[1:] == (4, 2)
    assert plan.first.shape == (2,)
    assert plan.value.shape == ()
    assert np.array_equal(plan.first, plan.actions[0].numpy())
    assert plan.actions.abs().max() <= 1
    assert agent.plan(agent.initial(3)).first.shape == (3, 2)
    assert plan.milliseconds > 0


def test_the_same_seed_gives_the_same_plan(agent: Agent) -> None:
    belief = agent.observe(agent.initial(), agent.no_action(), images())
    assert torch.equal(agent.plan(belief, seed=1).actions, agent.plan(belief, seed=1).actions)
    assert not torch.equal(agent.plan(belief, seed=1).elites, agent.plan(belief, seed=2).elites)


def test_without_time_the_shifted_previous_plan_comes_back(agent: Agent) -> None:
    belief = agent.initial()
    previous = agent.plan(belief, seed=1)
    late = agent.plan(belief, previous=previous, deadline_ms=1e-6)
    assert late.iterations == 0
    assert torch.equal(late.actions[:-1], previous.actions[1:])
    assert torch.equal(late.actions[-1], torch.zeros(2))


@pytest.mark.parametrize("deadline_ms", [0.0, -3, math.inf, math.nan])
def test_a_deadline_that_cannot_be_is_refused(
    model: WorldModel, tiny: Config, deadline_ms: float
) -> None:
    agent = agent_of(tiny, model)
    said = f"^deadline_ms: expected a finite number above 0, or None .*, got {deadline_ms}$"
    with pytest.raises(ValueError, match=said):
        agent.plan(agent.initial(), deadline_ms=deadline_ms)
    with pytest.raises(ValueError, match=said):
        within(agent, deadline_ms)


def test_plans_that_never_have_time_warn_once(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    plan = None
    for _ in range(12):
        plan = agent.plan(agent.initial(), plan, deadline_ms=1e-6)
        assert plan.origin == "previous"
    (warned,) = caplog.records
    assert warned.getMessage().startswith("deadline_ms: 5 plans in a row had no time for a search")
    assert "call agent.warm_up() before the first plan" in warned.getMessage()


def test_agents_and_plans_say_what_they_are(tiny: Config) -> None:
    agent = agent_of(tiny, build(tiny.model, Spec((16, 16, 3), 2)))
    assert repr(agent) == "Agent(image 16x16x3, 2 actions, mppi 8x2x4)"
    origin = Origin("runs/one", "cartpole_swingup", 6000, "000006000")
    model = build(tiny.model, Spec((16, 16, 3), 1, vectors={"joints": 3}))
    named = agent_of(tiny, model, origin=origin)
    assert repr(named.changed(planning=tiny.planning)) == (
        "Agent(cartpole_swingup, 6,000 env steps, image 16x16x3, joints 3, 1 action, mppi 8x2x4)"
    )
    assert "not its newest checkpoint" in repr(
        agent_of(tiny, model, origin=dataclasses.replace(origin, fallback="broken"))
    )
    numbers = torch.tensor([[0.12345, -0.5], [0.0, 0.0]])
    plan = Plan(numbers, torch.tensor(3.21), numbers[None], 3, 12.34)
    assert repr(plan) == "Plan(search, first [0.123, -0.5], value 3.21, 3 iterations, 12.3 ms)"
    assert repr(agent.plan(agent.initial(3))).startswith("Plan(search, 3 robots, 2 iterations")


def test_imagining_one_row_is_the_model_without_an_image(agent: Agent) -> None:
    belief = agent.observe(agent.initial(2), agent.no_action(2), images(2))
    action = np.float32([[0.3, -0.6], [1.0, 0.0]])
    imagined = agent.imagine(belief, action)
    dynamics = agent.model.dynamics
    expected = dynamics.imagine(dynamics.remember(belief, torch.from_numpy(action)), None)
    torch.testing.assert_close(imagined.features, expected.features)
    alone = agent.imagine(at(belief, 1), action[1])
    torch.testing.assert_close(alone.features, expected.features[1])
    assert agent.is_finite(imagined)
    assert not agent.is_finite(at(each(imagined, lambda part: part / 0), 0))


def test_a_users_score_replaces_the_reward(model: WorldModel, tiny: Config) -> None:
    config = read(tiny, {"planner": {"kind": "cem", "horizon": 4, "iterations": 8,
                                     "candidates": 200, "elites": 20},
                         "planning": {"proposals": 0}})  # fmt: skip
    agent = agent_of(config, model.requires_grad_(False))
    seen: list[tuple[torch.Size, torch.Size]] = []

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        seen.append((latents.shape, actions.shape))
        return -(actions - torch.tensor([0.4, -0.7])).square().sum(-1)

    plan = agent.plan(agent.initial(), score=score)
    assert seen[0] == ((1, 200, 4, model.dynamics.feature_size), (1, 200, 4, 2))
    np.testing.assert_allclose(plan.first, [0.4, -0.7], atol=0.1)


@pytest.mark.parametrize(
    ("changes", "asks", "far"),
    [
        ({}, False, False),  # near what the policy proposes
        ({}, True, True),  # the policy was not trained on this score
        ({"planning": {"proposals": 0}}, False, True),
        ({"model": {"policy": None, "value": None}, "behaviour": None}, False, True),
    ],
)
def test_which_std_a_search_begins_with(
    tiny: Config, changes: dict[str, Any], asks: bool, far: bool
) -> None:
    narrow = {
        "planner": {"initial_std": 0.11, "iterations": 1, "elites": 8},
        "planning": {"std_without_policy": 0.7},
    }
    config = read(read(tiny, narrow), changes)
    model = build(config.model, Spec((16, 16, 3), 2))
    agent = agent_of(config, model.requires_grad_(False))
    plan = agent.plan(agent.initial(), score=(lambda z, a: a.sum(-1)) if asks else None)
    assert (float(plan.elites[config.planning.proposals :].std()) > 0.3) == far


def test_a_score_of_another_shape_is_refused(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"score: expected \[B, N, L\] = \[1, .*, 4\], got \[1, "):
        agent.plan(agent.initial(), score=lambda latents, actions: actions.sum((-1, -2)))


def test_the_learned_reward_is_a_score_like_any_other(agent: Agent) -> None:
    belief = agent.observe(agent.initial(), agent.no_action(), images())
    agent.free_search = agent.search  # the same std as for the agent's own reward
    plan = agent.plan(belief)
    assert torch.equal(agent.plan(belief, score=agent.reward).actions, plan.actions)
    weighed = agent.plan(belief, score=lambda latents, actions: 0 * agent.reward(latents, actions)
                         - 1e3 * (actions - 0.5).square().sum(-1))  # fmt: skip
    assert not torch.equal(weighed.actions, plan.actions)


def test_a_goal_scores_the_belief_of_its_image_best(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(tiny, model.requires_grad_(False))
    pictures = images(2)
    belief = agent.initial(2)
    for _ in range(ROWS_AT_REST):
        belief = agent.observe(belief, agent.no_action(2), pictures)
    reached = belief.features[:, None, None].expand(-1, 5, 4, -1)
    actions = torch.zeros(2, 5, 4, 2)
    goal = agent.goal(pictures)
    assert goal(reached, actions).shape == (2, 5, 4)
    torch.testing.assert_close(goal(reached, actions), torch.zeros(2, 5, 4))
    assert (goal(reached.flip(0), actions) < 0).all()  # each robot has its own goal
    torch.testing.assert_close(goal(reached + 0.5, actions), torch.full((2, 5, 4), -0.25))
    alone = agent.goal(pictures[0])(reached[:1], actions[:1])
    torch.testing.assert_close(alone, torch.zeros(1, 5, 4))
    assert agent.plan(belief, score=goal).value.isfinite().all()
    with pytest.raises(ValueError, match="image: expected uint8"):
        agent.goal(pictures / 255)


def test_actions_under_way_are_imagined_before_the_plan_begins(agent: Agent) -> None:
    """With a delay of k rows the plan equals that from the belief k rows later."""
    belief = agent.observe(agent.initial(), agent.no_action(), images())
    under_way = np.random.default_rng(2).uniform(-1, 1, (3, 2)).astype(np.float32)
    later, dynamics = at(belief, None), agent.model.dynamics
    for count in range(4):
        delayed = agent.plan(belief, seed=5, delay=under_way[:count])
        expected = agent.plan(at(later, 0), seed=5)
        torch.testing.assert_close(delayed.actions, expected.actions)
        torch.testing.assert_close(delayed.value, expected.value)
        action = torch.as_tensor(under_way[count % 3])[None]
        later = dynamics.imagine(dynamics.remember(later, action), None)
    assert not torch.equal(delayed.actions, agent.plan(belief, seed=5).actions)


def test_every_robot_of_a_batch_has_its_own_actions_under_way(agent: Agent) -> None:
    seen = images(2)
    belief = agent.observe(agent.initial(2), agent.no_action(2), seen)
    under_way = np.random.default_rng(2).uniform(-1, 1, (2, 3, 2)).astype(np.float32)
    limits = Limits(max_change=0.2)

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        return -(latents[..., :2] - actions).square().sum(-1)

    together = agent.plan(belief, seed=5, delay=under_way, limits=limits, score=score)
    for row in range(2):
        alone = at(belief, row)
        plan = agent.plan(alone, seed=5 + row, delay=under_way[row], limits=limits, score=score)
        torch.testing.assert_close(together.actions[row], plan.actions, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        (np.zeros(2), r"delay: expected \[any, 2\], got \[2\]"),
        (np.zeros((3, 4)), r"delay: expected \[any, 2\], got \[3, 4\]"),
        (np.full((1, 2), np.nan), r"delay: expected finite numbers, got \[\[nan, nan\]\]"),
    ],
)
def test_a_delay_that_cannot_be_is_refused(agent: Agent, delay: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        agent.plan(agent.initial(), delay=delay)


def test_a_change_counts_from_delay_or_what_was_done_or_the_last_plan(agent: Agent) -> None:
    belief = agent.initial()
    limits = Limits(max_change=0.1)

    def begins_near(plan: Plan, last: list[float]) -> bool:
        rows = np.concatenate([[np.float32(last)], plan.actions.numpy()])
        return bool((np.abs(np.diff(rows.astype(np.float64), axis=0)) <= 0.1).all())

    with pytest.raises(ValueError, match="max_change needs the action that was done last"):
        agent.plan(belief, limits=limits)
    done = [0.9, -0.9]
    first = agent.plan(belief, limits=limits.after(done))
    assert begins_near(first, done)
    second = agent.plan(belief, previous=first, limits=limits)
    assert begins_near(second, first.first.tolist())
    other = agent.plan(belief, previous=first, limits=limits.after([-0.5, 0.5]))
    assert begins_near(other, [-0.5, 0.5])
    delay = np.float32([[0.0, 0.0], [0.3, 0.3]])
    third = agent.plan(belief, previous=first, limits=limits.after(done), delay=delay)
    assert begins_near(third, [0.3, 0.3])


def wall(latents: Tensor, actions: Tensor) -> Tensor:
    """A constraint: the first motor's action may not be between -0.4 and 0.4."""
    return actions[..., 0].abs() > 0.4


def test_a_candidate_that_breaks_a_constraint_loses_to_one_that_keeps_it(
    model: WorldModel, tiny: Config
) -> None:
    planner = {"iterations": 4, "candidates": 300, "elites": 30, "horizon": 2}
    for kind in ("cem", "mppi", "icem", "shooting", "gradient"):
        config = read(tiny, {"planner": {"kind": kind, **planner}, "planning": {"proposals": 0}})
        agent = agent_of(config, model.requires_grad_(False))

        def score(latents: Tensor, actions: Tensor) -> Tensor:
            return -actions.square().sum(-1)  # the best action is zero, which is not allowed

        plan = agent.plan(agent.initial(), score=score, limits=Limits(allowed=wall))
        assert bool(plan.is_allowed), kind
        assert wall(plan.actions, plan.actions).all(), kind
        assert wall(plan.elites, plan.elites).all(), kind
        assert plan.actions[:, 0].abs().max() < 0.9, kind
        free = agent.plan(agent.initial(), score=score)
        assert bool(free.is_allowed)
        assert not wall(free.actions, free.actions).any(), kind


def test_a_forbidden_mean_of_allowed_elites_is_not_the_plan(
    model: WorldModel, tiny: Config
) -> None:
    """CEM's elites are on both sides of the forbidden region, and their mean is inside it."""
    config = read(tiny, {"planner": {"kind": "cem", "iterations": 1, "candidates": 400,
                                     "elites": 100, "horizon": 1},
                         "planning": {"proposals": 0}})  # fmt: skip
    agent = agent_of(config, model.requires_grad_(False))

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        return -(actions[..., 0].abs() - 0.6).square()

    free = agent.plan(agent.initial(), score=score)
    assert free.actions[0, 0].abs() < 0.4
    plan = agent.plan(agent.initial(), score=score, limits=Limits(allowed=wall))
    assert wall(plan.actions, plan.actions).all()
    torch.testing.assert_close(plan.actions, plan.elites[0])


def test_a_plan_says_if_no_candidate_was_allowed(agent: Agent) -> None:
    def nowhere(latents: Tensor, actions: Tensor) -> Tensor:
        keeps = torch.ones(actions.shape[:3], dtype=torch.bool)
        keeps[0, :, -1] = False  # the first of two robots
        return keeps

    previous = agent.plan(agent.initial(2))
    plan = agent.plan(agent.initial(2), previous=previous, limits=Limits(allowed=nowhere))
    assert plan.is_allowed.tolist() == [False, True]
    assert plan.value[0] == -torch.inf
    assert plan.value[1].isfinite()
    torch.testing.assert_close(plan.actions[0, :-1], previous.actions[0, 1:])
    with pytest.raises(ValueError, match=r"limits: allowed: expected bool \[1, .*\], got float32"):
        agent.plan(agent.initial(), limits=Limits(allowed=lambda z, a: a.sum(-1)))


def test_a_constraint_may_ask_the_latents(agent: Agent) -> None:
    sizes = []

    def allowed(latents: Tensor, actions: Tensor) -> Tensor:
        sizes.append(latents.shape[-1])
        return latents[..., 0] < torch.inf

    assert bool(agent.plan(agent.initial(), limits=Limits(allowed=allowed)).is_allowed)
    assert set(sizes) == {agent.model.dynamics.feature_size}


class Ticking:
    """A clock that advances when candidates are scored: a millisecond for ten of them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.scored: list[int] = []

    def __call__(self) -> float:
        return self.now

    def score(self, latents: Tensor, actions: Tensor) -> Tensor:
        self.scored.append(actions.shape[1])
        self.now += actions.shape[1] / 1e4
        return -actions.square().sum(-1)


@pytest.mark.parametrize("kind", ["mppi", "cem", "icem", "shooting"])
def test_a_deadline_shorter_than_an_iteration_is_kept(
    kind: str, model: WorldModel, tiny: Config
) -> None:
    """1000 candidates take 100 ms, slices of 50 take 5."""
    planner = {**TINY["planner"], "kind": kind, "candidates": 1000, "elites": 100}
    config = read(tiny, {"planner": planner})
    clock = Ticking()
    agent = agent_of(config, model.requires_grad_(False), clock=clock)
    agent.timing = PlanTiming(50)
    for deadline_ms, slices, iterations in ((42.0, 8, 0), (133.0, 26, 1), (3.0, 1, 0)):
        clock.scored.clear()
        begun = clock.now
        plan = agent.plan(agent.initial(), deadline_ms=deadline_ms, score=clock.score)
        assert plan.iterations == iterations
        assert plan.milliseconds == pytest.approx((clock.now - begun) * 1e3)
        assert plan.milliseconds <= max(deadline_ms, 5.0) + 1e-6
        if kind != "icem":
            assert len(clock.scored) == slices
        assert bool(plan.value.isfinite())
    clock.scored.clear()
    agent.plan(agent.initial(), score=clock.score)
    assert max(clock.scored) == 1000  # without a deadline nothing is sliced


def timed(model: WorldModel, clock: Ticking, fixed_ms: float) -> None:
    """Imagining takes ``fixed_ms``, and a millisecond more for ten candidates."""

    def reward(features: Tensor) -> Tensor:
        clock.now += fixed_ms / 1e3 + features.shape[1] / 1e4
        return features[..., 0]

    model.reward = Answer(reward)


@pytest.mark.slow  # test_pages sizes an agent too
def test_the_population_fits_what_the_machine_reaches(model: WorldModel, tiny: Config) -> None:
    """Two iterations take 2 ms and 0.1 ms a candidate; only the first scores proposals."""
    clock = Ticking()
    timed(model, clock, fixed_ms=2.0)
    agent = agent_of(tiny, model.requires_grad_(False), clock=clock)
    sizes = {}
    for deadline_ms in (10.0, 20.0, 50.0, 100.0):
        fitted = within(agent, deadline_ms)
        sizes[deadline_ms] = fitted.planner.candidates
        took = fitted.plan(agent.initial()).milliseconds
        assert 0.5 * deadline_ms < took <= 0.9 * deadline_ms
        planner = fitted.planner
        assert planner.elites / planner.candidates == pytest.approx(3 / 8, abs=0.03)
        proposals = fitted.planning.proposals
        assert proposals / planner.candidates == pytest.approx(2 / 8, abs=0.03)
        assert planner.iterations == 2
    assert sizes == {10.0: 24, 20.0: 64, 50.0: 192, 100.0: 384}
    assert agent.planner.candidates == 8  # the agent itself does not change
    with pytest.raises(
        ValueError, match=r"within: 16 candidates over 4 rows take 6.8 ms here, more"
    ):
        within(agent, 5.0)


def test_warming_up_chooses_slices_by_their_cost(model: WorldModel, tiny: Config) -> None:
    clock = Ticking()
    config = read(tiny, {"planner": {"candidates": 1000, "elites": 9}})
    for fixed_ms, slice_size in ((0.0, 16), (10.0, 64), (100.0, 512), (1e9, 1000)):
        timed(model, clock, fixed_ms)
        agent = agent_of(config, model.requires_grad_(False), clock=clock)
        agent.warm_up()
        assert agent.timing.slice_size == slice_size
        assert agent.timing.slice_s == pytest.approx((fixed_ms + slice_size / 10) / 1e3)
        assert agent.timing.proposing_s == agent.timing.following_s == 0.0


def test_a_timing_is_the_slow_calls_and_the_policys_median() -> None:
    clock, calls = Ticking(), 0

    def propose(count: int) -> None:
        nonlocal calls
        calls += 1
        clock.now += count * (1.0 if calls % 10 else 3.0)  # two of twenty are slow

    def score(count: int) -> None:
        clock.now += 1.0

    timing = measure(score, propose, candidates=40, proposals=5, clock=clock)
    assert timing == PlanTiming(40, pytest.approx(1.0), pytest.approx(15.0), pytest.approx(1.0))


def test_a_timing_falls_slowly_and_rises_at_once() -> None:
    timing = PlanTiming(8, slice_s=10e-3, proposing_s=10e-3, following_s=10e-3)
    assert timing.after(slice_s=20e-3).slice_s == 20e-3
    assert timing.after(slice_s=5e-3).slice_s == pytest.approx(9.5e-3)
    assert timing.after(slice_s=None).slice_s == pytest.approx(9e-3)  # it was not tried
    assert timing.after(following_s=20e-3).following_s == pytest.approx(
        11e-3
    )  # as a running median
    assert timing.after(slice_s=20e-3).proposing_s == 10e-3
    assert PlanTiming(16).after(slice_s=20e-3) == PlanTiming(16)  # nothing was measured


def test_an_agent_measured_on_a_busy_machine_searches_later(
    model: WorldModel, tiny: Config
) -> None:
    """By its timing nothing fits; in fact a slice takes 5 ms of 8, and the rest no time."""
    clock = Ticking()
    timed(model, clock, fixed_ms=5.0)
    agent = agent_of(tiny, model.requires_grad_(False), clock=clock)
    agent.timing = PlanTiming(8, slice_s=0.1, proposing_s=0.1, following_s=0.05)
    origins: list[str] = []
    for _ in range(60):
        origins.append(agent.plan(agent.initial(), deadline_ms=8).origin)
    assert [*dict.fromkeys(origins)] == ["previous", "policy", "search"]
    assert origins == sorted(origins, key=["previous", "policy", "search"].index)
    assert agent.timing.slice_s < 8e-3


def test_an_agent_on_a_slow_machine_is_seldom_late(model: WorldModel, tiny: Config) -> None:
    """A slice takes twice the deadline: it is tried again after ln 2 / -ln 0.9 plans or more."""
    clock = Ticking()
    timed(model, clock, fixed_ms=16.0)
    agent = agent_of(tiny, model.requires_grad_(False), clock=clock)
    agent.timing = PlanTiming(8, slice_s=16e-3, proposing_s=1e-3, following_s=1e-3)
    plans = [agent.plan(agent.initial(), deadline_ms=8) for _ in range(70)]
    late = [at for at, plan in enumerate(plans) if plan.milliseconds > 8]
    assert late
    assert min(after - before for before, after in itertools.pairwise(late)) >= 7
    assert {plan.origin for plan in plans} == {"policy", "search"}


def test_proposals_that_took_too_long_are_the_plan(
    model: WorldModel, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the timing, proposals and a slice fit; but drawing the proposals takes all the time."""
    clock = Ticking()
    agent = agent_of(tiny, model.requires_grad_(False), clock=clock)
    agent.timing = PlanTiming(8, slice_s=5e-3, proposing_s=1e-3, following_s=1e-3)

    def slowly(*arguments: Any) -> Any:
        clock.now += 4e-3
        return propose(*arguments)

    monkeypatch.setattr("worldmodel.agent.propose", slowly)
    plan = agent.plan(agent.initial(), deadline_ms=8)
    assert (plan.iterations, plan.origin) == (0, "policy")


def test_an_agent_without_time_to_search_follows_the_policy(
    model: WorldModel, tiny: Config
) -> None:
    """By the timing, all proposals take 3 ms, one takes 1 ms, and a first slice 5 ms."""
    clock = Ticking()
    agent = agent_of(tiny, model.requires_grad_(False), clock=clock)
    assert model.policy is not None
    torch.nn.init.constant_(model.policy.last.bias, 0.5)
    belief = agent.initial()
    previous = agent.plan(belief)
    shifted = torch.cat([previous.actions[1:], torch.zeros(1, 2)])
    timing = PlanTiming(8, slice_s=5e-3, proposing_s=3e-3, following_s=1e-3)
    followed = torch.tensor(agent.act(belief))
    assert not torch.allclose(followed, shifted[0], atol=1e-2)

    def plan_in(deadline_ms: float, score: Any = None) -> Plan:
        agent.timing = timing  # the last plan, which took no time, has changed it
        return agent.plan(belief, previous, deadline_ms=deadline_ms, score=score)

    searched = plan_in(8.1)
    assert searched.value.isfinite()
    assert searched.origin == "search"
    for deadline_ms in (1.1, 4.9):
        plan = plan_in(deadline_ms)
        assert plan.value.isnan()
        assert (plan.iterations, plan.origin) == (0, "policy")
        torch.testing.assert_close(plan.actions[0], followed, atol=1e-2, rtol=0)  # bfloat16
    late = plan_in(0.9)
    torch.testing.assert_close(late.actions, shifted)
    assert late.origin == "previous"
    mine = plan_in(4.9, lambda latents, actions: actions[..., 0])
    torch.testing.assert_close(mine.actions, shifted)  # the policy was not trained on this score

    torch.nn.init.constant_(model.policy.last.bias, torch.nan)
    broken = plan_in(4.9)
    torch.testing.assert_close(broken.actions, shifted)


def test_the_return_is_rewards_discounts_and_a_last_value(model: WorldModel, tiny: Config) -> None:
    """Rewards are 1, 2, 3, 4, the model's discount 0.5, the discount rate 0.8, the value 10."""

    def by_step(values: list[float]) -> Tensor:
        return torch.tensor(values).expand(1, 3, 4)

    model.reward = Answer(lambda features: by_step([1, 2, 3, 4]))
    model.discount = Answer(lambda features: by_step([0.5] * 4))
    model.slow_value = Answer(lambda features: torch.full((1, 3), 10.0))
    agent = agent_of(dataclasses.replace(tiny, discount_rate=0.8), model)
    belief = agent.initial(1)
    parts = Imagination(model, None)
    score = ImaginedReturn(parts, parts, belief, RewardSum(0.8))
    expected = 1 + 0.4 * 2 + 0.16 * 3 + 0.064 * 4 + 0.0256 * 10
    torch.testing.assert_close(score(torch.zeros(1, 3, 4, 2)), torch.full((1, 3), expected))


def test_a_belief_needs_no_sample_and_no_memory_in_the_agent(agent: Agent) -> None:
    seen = images(3)
    step = agent.no_action()
    first = agent.observe(agent.initial(), step, seen[0])
    agent.observe(agent.initial(), step, seen[2])
    assert_same(first, agent.observe(agent.initial(), step, seen[0]))
    assert not torch.equal(
        agent.observe(first, step, seen[1]).features, agent.observe(first, step, seen[2]).features
    )


@pytest.mark.parametrize(
    ("action", "image", "complaint"),
    [
        (np.zeros(3), images(), r"action: expected float32 \[2\], got float32 \[3\]"),
        (np.zeros(2), images()[:8], r"image: expected uint8 \[16, 16, 3\], got uint8 \[8, 16, 3\]"),
        (np.zeros(2), images() / 255, r"image: expected uint8 .* got float64"),
        (np.array([0, np.nan]), images(), r"action: expected finite numbers, got \[0.0, nan\]"),
    ],
)
def test_the_inputs_of_a_robot_are_checked(
    model: WorldModel, tiny: Config, action: np.ndarray, image: np.ndarray, complaint: str
) -> None:
    agent = agent_of(tiny, model)
    with pytest.raises(ValueError, match=complaint):
        agent.observe(agent.initial(), action, image)


RAW = np.random.default_rng(5).integers(0, 256, (2, 48, 64, 3), np.uint8)


def seen_by(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The images that the agent's model observes from now on: [B, H, W, C] each."""
    seen: list[np.ndarray] = []
    observe = agent.model.observe_step

    def noted(latent: Any, action: Any, image: Any, *rest: Any) -> Any:
        seen.append(image.numpy())
        return observe(latent, action, image, *rest)

    monkeypatch.setattr(agent.model, "observe_step", noted)
    return seen


def test_an_image_of_the_cameras_shape_is_fitted_as_in_training(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec((16, 16, 3), 2, fit="crop", cameras={"image": (48, 64, 3)})
    agent = agent_of(tiny, build(tiny.model, spec))
    seen = seen_by(agent, monkeypatch)
    fitted = np.stack([fit_image(image, 16, "crop") for image in RAW])
    alone, two = (agent.initial(), agent.no_action()), (agent.initial(2), agent.no_action(2))
    for image in (RAW[0], torch.from_numpy(RAW[0]), {"image": RAW[0]}, fitted[0], RAW[0, ::2, ::2]):
        agent.observe(*alone, image)
    agent.observe(*two, RAW)
    agent.observe(*two, torch.from_numpy(RAW))
    agent.at_rest(RAW[1])
    *ones, smaller, together, tensors, _, _, goal = seen
    assert all(np.array_equal(image, fitted[:1]) for image in ones)
    assert np.array_equal(smaller[0], fit_image(RAW[0, ::2, ::2], 16, "crop"))
    assert np.array_equal(together, fitted)
    assert np.array_equal(tensors, fitted)
    assert np.array_equal(goal, fitted[1:])
    for wrong in (RAW[:1], RAW[0], RAW[:, :36], None):
        with pytest.raises(ValueError, match=r"^image: expected (uint8|a numpy array)"):
            agent.observe(*two, wrong)  # type: ignore[arg-type]


def test_an_agent_of_two_cameras_takes_their_images_by_name(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = {"front": (48, 64, 3), "wrist": (16, 16, 1)}
    agent = agent_of(
        tiny, build(tiny.model, Spec((16, 16, 4), 2, vectors={"joints": 2}, cameras=cameras))
    )
    seen = seen_by(agent, monkeypatch)
    parts = {"wrist": RAW[:, :16, :16, :1], "joints": np.ones((2, 2)), "front": RAW}
    agent.observe(agent.initial(2), agent.no_action(2), parts)
    fitted = np.stack([fit_image(image, 16) for image in RAW])
    assert np.array_equal(seen[0], np.concatenate([fitted, parts["wrist"]], -1))
    whole = {"image": seen[0][1], "joints": np.ones(2)}
    agent.observe(agent.initial(), agent.no_action(), whole)
    assert np.array_equal(seen[1], seen[0][1:])
    with pytest.raises(ValueError, match="image: expected front, wrist, joints; got front, joints"):
        agent.observe(agent.initial(), agent.no_action(), {"front": RAW[0], "joints": np.ones(2)})


def test_planet_plans_at_its_published_size() -> None:
    config = load_preset("planet")
    agent = agent_of(config, build(config.model, Spec((64, 64, 3), 1)).requires_grad_(False))
    image = np.zeros((64, 64, 3), np.uint8)
    belief = agent.observe(agent.initial(), agent.no_action(), image)
    plan = agent.plan(belief)
    assert plan.actions.shape == (12, 1)
    assert plan.elites.shape == (100, 12, 1)
    assert plan.iterations == 10
    assert belief.features.shape == (230,)
    # without a warm start: the last plan has no effect
    assert torch.equal(agent.plan(belief, previous=plan).actions, plan.actions)


def test_an_agent_without_a_policy_says_so(tiny: Config) -> None:
    config = read(
        tiny,
        {"model": {"policy": None, "value": None}, "behaviour": None},
    )
    agent = agent_of(config, build(config.model, Spec((16, 16, 3), 2)))
    assert agent.plan(agent.initial()).actions.shape == (4, 2)
    with pytest.raises(ValueError, match="learned none; call plan"):
        agent.act(agent.initial())


def test_the_policy_acts_alone(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(tiny, model)
    assert agent.act(agent.initial()).shape == (2,)
    assert agent.act(agent.initial(5)).shape == (5, 2)
