"""Behaviours that learn from real rows: soft actor-critic and Q-learning, exactly."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import worldmodel
from tests.test_choices import Levers
from worldmodel.assembly import learner_of
from worldmodel.behaviours import DQN, QLearning, Soft, SoftActorCritic
from worldmodel.behaviours.transitions import Transitions, transitions
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.learner import learn
from worldmodel.machine import precision_of
from worldmodel.models import WorldModel, build
from worldmodel.models.policy import SquashedPolicy
from worldmodel.models.world import Inference
from worldmodel.presets import load_preset
from worldmodel.structs import Batch, Spec

B, T, A = 3, 5, 2
SIZES: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"size": 4},
        "posterior": {"hidden_size": 6},
        "policy": {"layers": 1, "size": 6},
    },
    "learner": {"precision": "float32"},
}
FLOAT32 = precision_of("float32", torch.device("cpu"))


def config_of(preset: str, tunes: bool = True) -> Config:
    return read(load_preset(preset), {**SIZES, "behaviour": {"tunes_encoder": tunes}})


def model_of(preset: str) -> WorldModel:
    config = config_of(preset)
    return build(config.model, Spec((16, 16, 3), A, has_choices=preset == "dqn"))


def batch_of(has_choices: bool = False) -> Batch:
    random = torch.Generator().manual_seed(1)
    action = torch.rand(B, T, A, generator=random) * 2 - 1
    if has_choices:
        action = torch.nn.functional.one_hot(action.argmax(-1), A).float()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[2, 3:] = False  # a short episode, whose end is padding
    discount = torch.ones(B, T)
    discount[2, 2] = 0.0
    return Batch(
        image=torch.randint(0, 256, (B, T, 16, 16, 3), generator=random).byte(),
        action=action,
        reward=torch.rand(B, T, generator=random),
        discount=discount,
        valid=valid,
    )


def seen_by(model: WorldModel, batch: Batch) -> Inference:
    return model.infer(batch, torch.Generator().manual_seed(2))


# --- rows ----------------------------------------------------------------------------------------


def test_transitions_are_pairs_of_rows_of_one_episode() -> None:
    model, batch = model_of("vae_policy"), batch_of()
    features = torch.arange(B * T).reshape(B, T, 1).float()
    pairs = transitions(features, seen_by(model, batch))
    befores = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]  # rows 3 and 4 of the third window are padding
    assert pairs.before.flatten().tolist() == befores
    assert pairs.after.flatten().tolist() == [row + 1 for row in befores]
    rows = pairs.after.long().flatten()  # action, reward and discount are those of the later row
    assert torch.equal(pairs.action, batch.action.flatten(0, 1)[rows])
    assert torch.equal(pairs.reward, batch.reward.flatten()[rows])
    assert pairs.discount.tolist() == [1.0] * 9 + [0.0]


# --- gradients -----------------------------------------------------------------------------------


def gradients(preset: str, tunes: bool, losses_of: set[str]) -> dict[str, float]:
    """The norms of the gradients that some losses leave in the parts of a model."""
    model, config = model_of(preset), config_of(preset, tunes)
    assert config.behaviour is not None
    for policy in (model.policy,):
        assert policy is not None
        torch.nn.init.normal_(policy.last.weight)
    behaviour = config.behaviour.build(model, 0.9, FLOAT32)
    seen = seen_by(model, batch_of(preset == "dqn"))
    losses, _ = behaviour.losses(seen, torch.Generator().manual_seed(3))
    learn([loss for loss in losses if loss.name in losses_of])
    norms: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        norm = 0.0 if parameter.grad is None else float(parameter.grad.norm())
        norms[part] = norms.get(part, 0.0) + norm
    return norms


@pytest.mark.parametrize("preset", ["vae_policy", "dqn"])
def test_the_critics_error_tunes_the_encoder_only_if_it_is_asked_to(preset: str) -> None:
    for tunes in (True, False):
        norms = gradients(preset, tunes, {"critic"})
        assert (norms["encoder"] > 0) == tunes
        assert (norms["posterior"] > 0) == tunes
        assert norms["decoder"] == 0
    assert gradients("vae_policy", True, {"critic"})["policy"] == 0


def test_the_policys_loss_never_reaches_encoder_or_critics() -> None:
    norms = gradients("vae_policy", True, {"policy", "temperature"})
    assert norms.pop("policy") > 0
    assert set(norms.values()) == {0.0}
    model = model_of("vae_policy")
    behaviour = SoftActorCritic(Soft(), model, 0.9)
    losses, _ = behaviour.losses(seen_by(model, batch_of()), torch.Generator().manual_seed(3))
    (policy,) = (loss for loss in losses if loss.name == "policy")
    learn([policy])
    assert all(parameter.grad is None for parameter in behaviour.critics.parameters())


@pytest.mark.parametrize("tunes", [True, False])
def test_an_update_adds_the_objectives_gradient_to_the_critics(tunes: bool) -> None:
    """The encoder's gradient is the sum of both, each computed by itself."""
    model, batch = model_of("vae_policy"), batch_of()
    learner = learner_of(config_of("vae_policy", tunes), model)
    assert isinstance(learner.behaviour, SoftActorCritic)
    kept: list[Tensor] = []
    weight = next(model.encoder.parameters())  # type: ignore[attr-defined]

    def keep(seen: Inference) -> bool:
        assert weight.grad is not None
        kept.append(weight.grad.clone())
        return True

    learner._step = keep  # type: ignore[method-assign]
    state = learner.generator.get_state()
    learner.update(batch)
    behaviour, learner.behaviour = learner.behaviour, None
    learner.generator.set_state(state)
    learner.update(batch)
    alone = kept[1]
    assert torch.equal(kept[0], alone) != tunes
    if tunes:
        learner.generator.set_state(state)
        seen = model.infer(batch, learner.generator)
        from worldmodel.losses import terms_of

        terms_of(learner.objective, model, seen, learner.generator)  # draws as an update does
        learner.optimizer.zero_grad(set_to_none=True)
        losses, _ = behaviour.losses(seen, learner.generator)
        learn(losses)
        assert weight.grad is not None
        torch.testing.assert_close(kept[0], alone + weight.grad, rtol=1e-4, atol=1e-4)


# --- targets -------------------------------------------------------------------------------------


def pairs_of(discount: list[float], action_size: int = A) -> Transitions:
    count = len(discount)
    return Transitions(
        before=torch.eye(count, 4),
        action=torch.eye(action_size)[[row % action_size for row in range(count)]],
        reward=torch.arange(1.0, count + 1),
        discount=torch.tensor(discount),
        after=torch.eye(count, 4).flip(0),
    )


class Table(torch.nn.Module):
    """Values [S, A] of states that are one-hot."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table)

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.table

    def act(self, features: Tensor, noise: Tensor | None) -> Tensor:
        return torch.nn.functional.one_hot(self(features).argmax(-1), self.table.shape[1]).float()


def q_learning(fast: Tensor, slow: Tensor, **settings: float) -> QLearning:
    learning = QLearning(DQN(tunes_encoder=False, **settings), model_of("dqn"), 0.9)  # type: ignore[arg-type]
    learning.values = Table(fast)  # type: ignore[assignment]
    learning.slow = Table(slow)  # type: ignore[assignment]
    return learning


def test_an_end_is_worth_nothing_and_a_time_limit_what_would_follow() -> None:
    fast = torch.tensor([[1.0, 2.0]] * 4)
    target = q_learning(fast, fast).target(pairs_of([1.0, 0.0]))
    assert target.tolist() == pytest.approx([1 + 0.9 * 2, 2])


def test_the_fast_values_pick_and_the_slow_ones_judge() -> None:
    fast, slow = torch.tensor([[1.0, 2.0]] * 4), torch.tensor([[9.0, 5.0]] * 4)
    target = q_learning(fast, slow).target(pairs_of([1.0]))
    assert target.tolist() == pytest.approx([1 + 0.9 * 5])  # not the slow ones' own highest, 9


def test_soft_targets_are_the_smaller_value_and_the_entropy() -> None:
    behaviour = SoftActorCritic(
        Soft(first_temperature=0.5, reward_scale=3.0), model_of("vae_policy"), 0.9
    )
    pairs = pairs_of([1.0, 0.0])
    drawn = behaviour.target(pairs, torch.Generator().manual_seed(7))
    noise = torch.randn(2, A, generator=torch.Generator().manual_seed(7))
    action, log_prob = behaviour.policy.sample(pairs.after, noise)
    both = behaviour.slow(pairs.after, action)
    ahead = torch.minimum(both[0], both[1]) - 0.5 * log_prob
    expected = 3 * pairs.reward + 0.9 * pairs.discount * ahead
    torch.testing.assert_close(drawn, expected.detach())
    assert float(drawn[1]) == 6.0


def test_a_chain_of_three_states_is_solved_exactly() -> None:
    """Right leads on, and at last out, with a reward of 1; left begins again, with 0.05."""
    reward = torch.tensor([[0.05, 0.0], [0.05, 0.0], [0.05, 1.0]])
    next_state = torch.tensor([[0, 1], [0, 2], [0, 2]])
    goes_on = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    exact = torch.zeros(3, 2)
    for _ in range(500):  # value iteration
        exact = reward + 0.9 * goes_on * exact.amax(1)[next_state]
    one_hot, flat = torch.eye(3), torch.arange(6)
    state, choice = flat // 2, flat % 2
    pairs = Transitions(
        one_hot[state],
        torch.eye(2)[choice],
        reward.flatten(),
        goes_on.flatten(),
        one_hot[next_state.flatten()],
    )
    learning = q_learning(torch.zeros(3, 2), torch.zeros(3, 2), target_rate=0.2)
    optimizer = torch.optim.SGD(learning.values.parameters(), lr=1.0)
    for _ in range(1500):
        values = (learning.values(pairs.before) * pairs.action).sum(-1)
        loss = torch.nn.functional.huber_loss(values, learning.target(pairs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learning.stepped()
    torch.testing.assert_close(learning.values(one_hot), exact, atol=1e-3, rtol=0)
    assert learning.values(one_hot).argmax(1).tolist() == [1, 1, 1]


# --- the squashed policy -------------------------------------------------------------------------


def test_the_log_density_of_a_squashed_action_is_torchs() -> None:
    policy = SquashedPolicy(3, 2, 1, 5, lambda i, o: torch.nn.Linear(i, o))
    torch.nn.init.normal_(policy.last.weight, std=2.0)
    features, noise = torch.randn(50, 3), torch.randn(50, 2)
    action, log_prob = policy.sample(features, noise)
    mean, std = policy(features)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean.double(), std.double()),
        torch.distributions.TanhTransform(cache_size=1),
    )
    u = mean.double() + std.double() * noise.double()
    inside = u.tanh()
    expected = squashed.base_dist.log_prob(u) - torch.log1p(-inside.square())
    near = u.abs().amax(1) < 6  # further out, this plain formula itself has no digits left
    torch.testing.assert_close(
        log_prob[near].double(), expected.sum(-1)[near], atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(action.double(), inside, atol=1e-5, rtol=0)
    assert bool(log_prob.isfinite().all())


def test_the_density_of_squashed_actions_sums_to_one() -> None:
    policy = SquashedPolicy(1, 1, 1, 5, lambda i, o: torch.nn.Linear(i, o))
    mean, std = policy(torch.ones(1, 1))
    assert 0.7 < std.item() < 0.95
    inside = torch.linspace(-0.9999, 0.9999, 20_001)[:, None]
    noise = ((torch.atanh(inside) - mean) / std).detach()
    with torch.no_grad():
        _, log_prob = policy.sample(torch.ones(len(inside), 1), noise)
    area = torch.trapezoid(log_prob.exp(), inside[:, 0])
    assert abs(float(area) - 1) < 1e-3


def test_the_temperature_rises_where_the_policy_is_too_certain() -> None:
    model = model_of("vae_policy")
    behaviour = SoftActorCritic(Soft(), model, 0.9)
    for bias, rises in ((-9.0, True), (0.0, False)):  # of the std before it is squashed
        torch.nn.init.constant_(behaviour.policy.last.bias[A:], bias)
        losses, _ = behaviour.losses(seen_by(model, batch_of()), torch.Generator().manual_seed(3))
        behaviour.log_temperature.grad = None
        learn([loss for loss in losses if loss.name == "temperature"])
        assert behaviour.log_temperature.grad is not None
        assert (float(behaviour.log_temperature.grad) < 0) == rises


# --- state, settings -----------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["vae_policy", "dqn"])
def test_a_behaviour_goes_on_from_its_state(preset: str) -> None:
    batch = batch_of(preset == "dqn")
    one, other = (learner_of(config_of(preset), model_of(preset)) for _ in range(2))
    one.update(batch)
    other.model.load_state_dict(one.model.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    other.restore({name: part.clone() for name, part in one.state().items()})
    for learner in (one, other):
        learner.update(batch)
    for name, tensor in one.state().items():
        assert torch.equal(tensor, other.state()[name]), name
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("preset", "said", "answer"),
    [
        (
            "vae_policy",
            {"model": {"policy": {"kind": "tanh_normal"}}},
            "behaviour: needs squashed policy, and model.policy.kind is tanh_normal; write"
            " model.policy.kind: squashed",
        ),
        (
            "dqn",
            {"model": {"policy": {"kind": "squashed"}}},
            "behaviour: needs greedy policy, and model.policy.kind is squashed; write"
            " model.policy.kind: greedy",
        ),
    ],
)
def test_a_behaviour_with_another_policy_is_refused(
    preset: str, said: dict[str, Any], answer: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(load_preset(preset), said)
    assert str(raised.value) == answer


@pytest.mark.parametrize(
    ("preset", "answer"),
    [
        (
            "dqn",
            "model.policy.kind: greedy compares the values of choices, and here an action is 2"
            " numbers; write model.policy.kind: squashed with behaviour.kind: soft",
        ),
        (
            "vae_policy",
            "model.policy.kind: squashed gives numbers, and here an action is one of 3 choices;"
            " write model.policy.kind: greedy with behaviour.kind: dqn",
        ),
    ],
)
def test_actions_that_do_not_fit_are_refused_before_anything_is_created(
    preset: str, answer: str, tmp_path: Path
) -> None:
    config = replace(config_of(preset), task="toy")
    env = Levers() if preset == "vae_policy" else None
    with pytest.raises(ConfigError) as raised:
        worldmodel.train(config, tmp_path / "run", steps=10, env=env)
    assert str(raised.value) == answer
    assert not (tmp_path / "run").exists()
