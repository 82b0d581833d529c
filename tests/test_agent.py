from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Answer
from worldmodel.agent import Agent
from worldmodel.config import Config, load_preset, read
from worldmodel.models import WorldModel
from worldmodel.structs import Latent


@pytest.fixture(params=["mppi", "cem", "icem", "shooting", "gradient"])
def agent(request: pytest.FixtureRequest, model: WorldModel, tiny: Config) -> Agent:
    for parameter in model.reward.parameters():  # otherwise nothing is worth searching for
        torch.nn.init.normal_(parameter)
    return Agent(
        model.requires_grad_(False),
        read(tiny, {"planner": {"kind": request.param, "sampled": request.param == "cem"}}),
    )


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
        alone = agent.observe(agent.initial(), actions[row], seen[row])
        assert_same(alone, together.map(lambda part: part[row]))  # noqa: B023
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
    late = agent.plan(belief, previous=previous, deadline_ms=0.0)
    assert late.iterations == 0
    assert torch.equal(late.actions[:-1], previous.actions[1:])
    assert torch.equal(late.actions[-1], torch.zeros(2))


def test_a_users_score_replaces_the_reward(model: WorldModel, tiny: Config) -> None:
    config = read(tiny, {"planner": {"kind": "cem", "iterations": 8, "candidates": 200,
                                     "elites": 20, "proposals": 0}})  # fmt: skip
    agent = Agent(model.requires_grad_(False), config)
    seen: list[tuple[torch.Size, torch.Size]] = []

    def score(latents: Tensor, actions: Tensor) -> Tensor:
        seen.append((latents.shape, actions.shape))
        return -(actions - torch.tensor([0.4, -0.7])).square().sum(-1)

    plan = agent.plan(agent.initial(), score=score)
    assert seen[0] == ((1, 200, 4, model.dynamics.feature_size), (1, 200, 4, 2))
    np.testing.assert_allclose(plan.first, [0.4, -0.7], atol=0.1)


def test_the_return_is_rewards_discounts_and_a_last_value(model: WorldModel, tiny: Config) -> None:
    """Rewards 1, 2, 3, 4 at steps ahead, discount 0.5 of the model, rate 0.8, last value 10."""

    def by_step(values: list[float]) -> Tensor:
        return torch.tensor(values).expand(1, 3, 4)

    model.reward = Answer(lambda features: by_step([1, 2, 3, 4]))
    model.discount = Answer(lambda features: by_step([0.5] * 4))
    model.slow_value = Answer(lambda features: torch.full((1, 3), 10.0))
    agent = Agent(model, dataclasses.replace(tiny, discount_rate=0.8))
    belief = agent.initial(1)
    score = agent._score(belief, None, [torch.Generator()])
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
def test_what_a_robot_hands_in_is_checked(
    model: WorldModel, tiny: Config, action: np.ndarray, image: np.ndarray, complaint: str
) -> None:
    agent = Agent(model, tiny)
    with pytest.raises(ValueError, match=complaint):
        agent.observe(agent.initial(), action, image)


def test_planet_plans_at_its_published_size() -> None:
    config = load_preset("planet")
    agent = Agent(WorldModel(config.model, 64, 3, 1).requires_grad_(False), config)
    image = np.zeros((64, 64, 3), np.uint8)
    belief = agent.observe(agent.initial(), agent.no_action(), image)
    plan = agent.plan(belief)
    assert plan.actions.shape == (12, 1)
    assert plan.elites.shape == (100, 12, 1)
    assert plan.iterations == 10
    assert belief.features.shape == (230,)
    # afresh at each decision: the last plan changes nothing
    assert torch.equal(agent.plan(belief, previous=plan).actions, plan.actions)


def test_an_agent_without_a_policy_says_so(tiny: Config) -> None:
    config = read(
        tiny,
        {"model": {"policy": {"kind": "none"}, "value": {"kind": "none"}}},
    )
    agent = Agent(WorldModel(config.model, 16, 3, 2), config)
    assert agent.plan(agent.initial()).actions.shape == (4, 2)
    with pytest.raises(ValueError, match="learned none; call plan"):
        agent.act(agent.initial())


def test_the_policy_acts_alone(model: WorldModel, tiny: Config) -> None:
    agent = Agent(model, tiny)
    assert agent.act(agent.initial()).shape == (2,)
    assert agent.act(agent.initial(5)).shape == (5, 2)
