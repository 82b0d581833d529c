"""An ensemble beside the dynamics: its disagreement, as a penalty and as a bonus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from worldmodel import export
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.losses import Ensemble
from worldmodel.models import WorldModel, build
from worldmodel.models.imagination import Imagination
from worldmodel.presets import load_preset
from worldmodel.rollout.collector import _curious
from worldmodel.scores import Disagreement, RewardSum, reward_without
from worldmodel.structs import Batch, Spec, repeat

SMALL: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"size": 6, "hidden_size": 11},
        "posterior": {"hidden_size": 7},
        "ensemble": {"size": 3, "hidden_size": 8},
    },
    "objective": {"ensemble": {}},
    "planner": {"horizon": 4, "candidates": 60, "elites": 6, "iterations": 3},
    "planning": {"pessimism": 0.5, "precision": "float32"},
    "exploration": {"curiosity": 2.0},
    "learner": {"precision": "float32"},
}


@pytest.fixture
def config() -> Config:
    return read(load_preset("filter"), SMALL)


@pytest.fixture
def model(config: Config) -> WorldModel:
    return build(config.model, Spec((16, 16, 3), 2))


@pytest.fixture
def agent(config: Config, model: WorldModel) -> Agent:
    return agent_of(config, model.requires_grad_(False))


def a_batch(windows: int = 2, length: int = 3) -> Batch:
    random = torch.Generator().manual_seed(3)
    return Batch(
        image=torch.randint(0, 256, (windows, length, 16, 16, 3), generator=random).byte(),
        action=torch.rand(windows, length, 2, generator=random) * 2 - 1,
        reward=torch.zeros(windows, length),
        discount=torch.ones(windows, length),
        valid=torch.tensor([[True] * length, [True] * (length - 1) + [False]]),
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def saying(model: WorldModel, *vectors: list[float]) -> None:
    """Let each member predict the same vector everywhere."""
    assert model.ensemble is not None
    model.ensemble.members = nn.ModuleList(Always(torch.tensor(v)) for v in vectors)


class Always(nn.Module):
    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.vector = vector

    def forward(self, features: Tensor) -> Tensor:
        return self.vector.expand(*features.shape[:-1], -1)


def test_members_that_agree_disagree_by_nothing(model: WorldModel) -> None:
    assert model.ensemble is not None
    first, *others = model.ensemble.members
    features = torch.randn(4, 2, 6)
    assert (model.ensemble.disagreement(features) > 0).all()  # they begin with other weights
    for other in others:
        other.load_state_dict(first.state_dict())
    assert (model.ensemble.disagreement(features) == 0).all()


def test_disagreement_is_the_variance_by_hand(model: WorldModel) -> None:
    """Of 1, 2, 6 it is 14/3, of 0, 0, 3 it is 2; the mean of both is 10/3."""
    saying(model, [1.0, 0.0], [2.0, 0.0], [6.0, 3.0])
    assert model.ensemble is not None
    result = model.ensemble.disagreement(torch.randn(5, 7, 6))
    torch.testing.assert_close(result, torch.full((5, 7), 10 / 3))


def test_the_loss_is_half_the_squared_error_by_hand(model: WorldModel) -> None:
    saying(model, [1.0] * 256, [2.0] * 256, [6.0] * 256)
    seen = model.infer(a_batch(), generator())
    seen = replace(seen, embeds=torch.full_like(seen.embeds, 3.0))
    result = Ensemble(weight=2.0)(model, seen, generator())["ensemble"]
    one = 2.0 * 0.5 * (4 + 1 + 9)
    torch.testing.assert_close(result, torch.tensor([[0.0, one, one], [0.0, one, 0.0]]))


def test_the_loss_reaches_every_member_and_nothing_else(model: WorldModel) -> None:
    seen = model.infer(a_batch(), generator())
    Ensemble()(model, seen, generator())["ensemble"].sum().backward()
    assert model.ensemble is not None
    for member in model.ensemble.members:
        assert all(w.grad is not None and w.grad.any() for w in member.parameters())
    inside = {id(weight) for weight in model.ensemble.parameters()}
    others = [w for w in model.parameters() if id(w) not in inside]
    assert all(weight.grad is None for weight in others)


def test_actions_of_another_row_are_noticed(model: WorldModel) -> None:
    batch, term = a_batch(), Ensemble()
    shifted = replace(batch, action=batch.action.roll(1, 1))
    one, other = (
        term(model, model.infer(each, generator()), generator())["ensemble"].detach()
        for each in (batch, shifted)
    )
    assert not torch.allclose(one, other)


def test_one_update_moves_every_weight_of_the_ensemble(config: Config, model: WorldModel) -> None:
    assert model.ensemble is not None
    before = [weight.clone() for weight in model.ensemble.parameters()]
    learner_of(config, model).update(a_batch())
    after = list(model.ensemble.parameters())
    assert not any(map(torch.equal, before, after))


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_pessimism_is_subtracted_and_curiosity_added(
    model: WorldModel, dtype: torch.dtype | None
) -> None:
    """Also by the fast layers of plans."""
    model.requires_grad_(False)
    torch.nn.init.normal_(model.reward.last.weight)
    heads = Imagination(model, dtype)
    actions = torch.rand(2, 5, 4, 2) * 2 - 1
    futures = heads.imagine(model.dynamics.initial(2), actions, None)
    reward = RewardSum(0.9).of_rows(futures, actions, heads)
    assert model.ensemble is not None
    unknown = model.ensemble.disagreement(futures.features)
    for pessimism in (0.5, -2.0):
        rows = reward_without(pessimism, 0.9).of_rows(futures, actions, heads)
        torch.testing.assert_close(rows, reward - pessimism * unknown)
    assert reward_without(0.0, 0.9) == RewardSum(0.9)


def test_plans_avoid_or_seek_what_the_members_disagree_about(agent: Agent) -> None:
    """All rewards of a new model are 0, so the disagreement alone decides."""
    belief = agent.initial()

    def unknown(pessimism: float) -> float:
        changed = agent.changed(planning=replace(agent.planning, pessimism=pessimism))
        actions = changed.plan(belief).actions
        futures = agent.model.imagine(repeat(belief, 1), actions[None], None)
        ensemble = agent.model.ensemble
        assert ensemble is not None
        return float(ensemble.disagreement(futures.features).sum())

    assert unknown(100.0) < unknown(0.0) < unknown(-100.0)


def test_only_collected_episodes_are_curious(config: Config, agent: Agent) -> None:
    assert agent.planning.pessimism == 0.5
    assert _curious(agent, config).planning.pessimism == 0.5 - 2.0
    calm = read(config, {"exploration": {"curiosity": 0.0}})
    assert _curious(agent, calm) is agent


def test_a_model_without_an_ensemble_knows_no_disagreement(config: Config) -> None:
    without = read(
        config,
        {
            "model": {"ensemble": None},
            "objective": {"ensemble": None},
            "planning": {"pessimism": 0.0},
            "exploration": {"curiosity": 0.0},
        },
    )
    model = build(without.model, Spec((16, 16, 3), 2)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"^disagreement: this model has no ensemble; train one"):
        agent_of(without, model).plan(model.dynamics.initial(), score=Disagreement())


def test_an_agent_that_counts_disagreement_is_not_exported(agent: Agent) -> None:
    with pytest.raises(ConfigError, match=r"^planning\.pessimism: an agent that counts"):
        export.record(agent)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"model": {"ensemble": {"size": 1}}},
            "model.ensemble.size: expected 2 or more, got 1",
        ),
        (
            {"objective": {"ensemble": None}},
            "model.ensemble: no term of the objective trains it; write objective.ensemble.weight:"
            " 1.0 or model.ensemble: none",
        ),
        (
            {"model": {"ensemble": None}},
            "objective.ensemble: needs ensemble, and model.ensemble is none; write"
            " objective.ensemble: none",
        ),
        (
            {"model": {"ensemble": None}, "objective": {"ensemble": None}},
            "planning.pessimism: needs the disagreement of an ensemble, and model.ensemble is none;"
            " write model.ensemble.size: 5 and objective.ensemble.weight: 1.0, or"
            " planning.pessimism: 0.0",
        ),
        (
            {"planning": {"goal": {}, "pessimism": 0.0}},
            "exploration.curiosity: changes what rewards count, and planning.goal plans to an image"
            " instead; write planning.goal: none, or exploration.curiosity: 0.0",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(
    config: Config, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(config, changes)
    assert str(raised.value) == complaint
