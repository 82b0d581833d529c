"""Actions that are one of several choices: from the environment's int to the plan and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions

import worldmodel
from tests.conftest import Answer, Echo, parts_of, practise
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import adopt, check_env
from worldmodel.loop import online
from worldmodel.models import WorldModel, build
from worldmodel.models.layers import normed
from worldmodel.models.policy import CategoricalPolicy
from worldmodel.planners.categorical import chosen
from worldmodel.replay import read_episode
from worldmodel.rollout import Noise, collect, play_random
from worldmodel.structs import Latent, Spec, Step

CHOICES = 3


class Levers:
    """Three levers: the image's brightness says which was pulled, the last gives reward."""

    action_count = CHOICES

    def __init__(self, length: int = 12) -> None:
        self.length = length
        self.pulled: list[Any] = []

    def reset(self) -> Step:
        self.pulled = []
        return Step(image=np.zeros((16, 16, 3), np.uint8))

    def step(self, action: int) -> Step:
        self.pulled.append(action)
        return Step(
            image=np.full((16, 16, 3), 60 * (action + 1), np.uint8),
            reward=float(action == CHOICES - 1),
            is_last=len(self.pulled) == self.length - 1,
        )


@pytest.fixture
def model(tiny: Config) -> WorldModel:
    return build(tiny.model, Spec((16, 16, 3), CHOICES, has_choices=True))


# --- rows --------------------------------------------------------------------------------------


def test_a_choice_is_an_int_for_the_environment_and_one_hot_in_the_row() -> None:
    inner = Levers()
    env = adopt(inner)
    first = env.reset()
    assert first.action is not None
    assert first.action.tolist() == [0, 0, 0]
    row = env.step(np.array([0.2, 0.1, 0.9]))
    assert inner.pulled == [2]
    assert type(inner.pulled[0]) is int
    assert row.action is not None
    assert row.action.tolist() == [0, 0, 1]
    assert row.action.dtype == np.float32
    assert (env.action_count, adopt(env)) == (3, env)


def test_a_choice_that_a_robot_made_instead_is_in_the_row() -> None:
    class Stubborn(Levers):
        def step(self, action: int) -> Step:
            return replace(super().step(action), action=np.int64(1))  # type: ignore[arg-type]

    env = adopt(Stubborn())
    env.reset()
    row = env.step(np.array([1.0, 0.0, 0.0]))
    assert row.action is not None
    assert row.action.tolist() == [0, 1, 0]
    env = adopt(broken(action=-1))
    env.reset()
    with pytest.raises(ValueError, match="action: expected 0 to 2 done, got -1"):
        env.step(np.array([1.0, 0.0, 0.0]))


def broken(**fields: Any) -> Levers:
    class Broken(Levers):
        def step(self, action: int) -> Step:
            return replace(super().step(action), **fields)

    return Broken()


def test_the_check_knows_choices() -> None:
    check_env(Levers())
    check_env(adopt(Levers()))
    for done in (3, -1, 0.5):
        with pytest.raises(ValueError, match=rf"action: expected .* from 0 to 2, got {done}"):
            check_env(broken(action=done))
    env = Levers()
    for count in (1, 2.5, "two"):
        env.action_count = count  # type: ignore[assignment]
        with pytest.raises(ValueError, match="action_count: expected a whole number from 2 on"):
            check_env(env)


# --- playing -----------------------------------------------------------------------------------


def shares(actions: np.ndarray) -> np.ndarray:
    assert set(np.unique(actions)) <= {0.0, 1.0}
    assert (actions.sum(-1) == 1).all()
    return np.asarray(actions.mean(0))


def test_random_choices_are_even() -> None:
    played = play_random(adopt(Levers(3000)), seed=0)
    np.testing.assert_allclose(shares(played.episode.action[1:]), 1 / 3, atol=0.03)


def test_a_share_of_the_planned_choices_is_replaced_by_random_ones(
    model: WorldModel, tiny: Config
) -> None:
    class First(Agent):
        def plan(self, belief: Latent, *args: Any, **named: Any) -> Any:
            plan = super().plan(belief, deadline_ms=1e-6)
            return replace(plan, actions=torch.eye(CHOICES)[:1].expand(1, 4, -1))

    def played(noise: float) -> np.ndarray:
        agent = First(*parts_of(agent_of(tiny, model.requires_grad_(False))))
        (one,) = collect([adopt(Levers(400))], agent, [[0]], Noise(noise, 0.8))
        return shares(one.episode.action[1:])

    assert played(0.0).tolist() == [1, 0, 0]
    np.testing.assert_allclose(played(0.6), [0.4 + 0.2, 0.2, 0.2], atol=0.07)


# --- the policy --------------------------------------------------------------------------------


def one_policy(logits: list[float]) -> CategoricalPolicy:
    policy = CategoricalPolicy(4, len(logits), 1, 8, normed)
    with torch.no_grad():
        policy.last.bias.copy_(torch.tensor(logits))
    return policy


def test_normal_noise_draws_the_choices_as_often_as_they_are_likely() -> None:
    policy = one_policy([0.0, 1.0, -1.0])
    features = torch.randn(20_000, 4)
    spread = policy(features)
    drawn = policy.act(features, torch.randn(20_000, 3))
    torch.testing.assert_close(drawn.mean(0), spread[0].exp(), atol=0.015, rtol=0)
    torch.testing.assert_close(spread[0].exp().sum(), torch.tensor(1.0))
    assert (policy.act(features, None) == torch.tensor([0.0, 1.0, 0.0])).all()
    extreme = torch.tensor([[30.0, -30.0, 0.0], [-30.0, -30.0, -30.0]])
    assert policy.act(features[:2], extreme).sum(-1).tolist() == [1, 1]


def test_a_search_draws_the_choices_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.6, 0.3, 0.1, 0.0])
    drawn = chosen(probabilities, torch.randn(100_000, 4))
    assert (drawn.sum(-1) == 1).all()
    torch.testing.assert_close(drawn.mean(0), probabilities, atol=0.01, rtol=0)
    assert drawn[:, 3].sum() == 0


def test_no_choice_is_ever_impossible_and_the_entropy_is_known() -> None:
    policy = one_policy([0.0, 200.0, -200.0])
    spread = policy(torch.randn(5, 4))
    assert spread.isfinite().all()
    assert spread.exp().min().item() == pytest.approx(0.01 / 3, rel=1e-3)
    expected = distributions.Categorical(logits=spread).entropy()
    torch.testing.assert_close(policy.entropy(spread), expected)


def test_forwards_the_choice_backwards_the_probabilities() -> None:
    policy = one_policy([0.3, 0.1, -0.5])
    features, noise = torch.randn(7, 4), torch.randn(7, 3)
    worth = torch.tensor([1.0, -2.0, 0.5])
    drawn, spread, _ = policy.draw(features, noise)
    assert torch.equal(drawn.detach(), policy.act(features, noise))
    through = torch.autograd.grad((drawn * worth).sum(), policy.last.bias, retain_graph=True)[0]
    expected = torch.autograd.grad((spread.exp() * worth).sum(), policy.last.bias)[0]
    torch.testing.assert_close(through, expected)
    assert expected.abs().min() > 0


def test_large_logits_saturate_a_policy() -> None:
    noise = torch.zeros(1, 3)
    for logits, saturation in (
        ([100.0, 104.0, 96.0], 0.0),
        ([9.0, 0.0, 0.0], 4.0),
        ([0.0, 0.0, -9.0], 4.0),
    ):
        assert one_policy(logits).draw(torch.randn(1, 4), noise).saturation.item() == pytest.approx(
            saturation
        )


def test_the_policy_learns_the_rewarded_choice(model: WorldModel) -> None:
    """The latent is the last choice; the rewards of the three choices are 1, 2 and 3."""

    policy = CategoricalPolicy(2 + CHOICES, CHOICES, 1, 8, normed)
    model.dynamics = echo = Echo(CHOICES)  # type: ignore[assignment]
    model.reward = Answer(lambda features: features[..., -3:] @ torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[assignment]
    model.slow_value = Answer(lambda features: torch.zeros(features.shape[:-1]))  # type: ignore[assignment]
    model.discount = Answer(lambda features: torch.ones(features.shape[:-1]))  # type: ignore[assignment]
    starts = echo.at_rest(32, memory_size=2)
    practise(model, policy, starts, rate=0.05, updates=60)
    assert policy(starts.features[:1])[0, 2].exp() > 0.9


# --- the agent, and a run ----------------------------------------------------------------------


def test_plans_are_choices_and_the_best_sequence_is_found(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(
        read(tiny, {"planner": {"candidates": 200, "elites": 20, "iterations": 6}}),
        model.requires_grad_(False),
    )
    wanted = torch.eye(CHOICES)[[2, 0, 1, 2]]
    plan = agent.plan(agent.initial(), score=lambda latents, actions: (actions * wanted).sum(-1))
    assert torch.equal(plan.actions, wanted)
    assert plan.value > 3
    assert agent.act(agent.initial(5)).sum(-1).tolist() == [1] * 5
    together = agent.plan(agent.initial(2), seed=[3, 4])
    assert torch.equal(together.actions[1], agent.plan(agent.initial(), seed=4).actions)
    assert (together.actions.sum(-1) == 1).all()


def test_a_planner_without_a_counterpart_is_refused_before_there_are_files(
    tiny: Config, tmp_path: Path
) -> None:
    config = read(tiny, {"planner": {"kind": "gradient"}})
    with pytest.raises(ConfigError, match=r"planner\.kind: where an action is one of several"):
        worldmodel.train(config, tmp_path / "run", env=Levers(), steps=20)
    assert not (tmp_path / "run").exists()


def test_an_environment_of_choices_trains_is_loaded_and_goes_on(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "FINAL_EPISODES", 2)
    for name, sittings in (("whole", [60]), ("parts", [35, 60])):
        for steps in sittings:
            worldmodel.train(tiny, tmp_path / name, env=Levers(), steps=steps)
    episodes = [
        [read_episode(path) for path in sorted((tmp_path / name / "replay").glob("*.npz"))]
        for name in ("whole", "parts")
    ]
    for whole, parts in zip(*episodes, strict=True):
        shares(whole.action[1:])
        np.testing.assert_array_equal(whole.action, parts.action)
    agent = worldmodel.load(tmp_path / "whole")
    evaluated = worldmodel.evaluate(agent, Levers(), episodes=1)
    shares(evaluated.episodes[0].action[1:])
