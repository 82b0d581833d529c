"""PPO: advantages, the ratio that must leave 1, and rows that only the newest policy played."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions

import worldmodel
from worldmodel.assembly import learner_of
from worldmodel.behaviours import PPO, ProximalPolicy
from worldmodel.behaviours.returns import advantages
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.learner import Learner
from worldmodel.loop import online
from worldmodel.models import build
from worldmodel.models.layers import normed
from worldmodel.models.policy import CategoricalPolicy, Policy
from worldmodel.presets import load_preset
from worldmodel.replay import Replay
from worldmodel.structs import Batch, Episode, Spec

SIZE = 16
SMALL: dict[str, Any] = {
    "task": "toy",
    "env": {"image_size": SIZE, "frames": 1, "action_repeat": 16},
    "model": {
        "encoder": {"patch": 8, "token_size": 32, "layers": 1, "patch_features": 2},
        "dynamics": {"size": 6},
        "posterior": {"hidden_size": 8},
        "decoder": {"width": 2},
        "value": {"layers": 1, "size": 6},
        "policy": {"layers": 1, "size": 6},
    },
    "behaviour": {"policy_rate": 0.01},
    "learner": {"precision": "float32"},
    "replay": {"batch": 2, "length": 5, "memory_gb": 0.1},
    "loop": {"updates": 20, "evaluate_every": 10_000, "episodes_at_once": 2},
}


@pytest.fixture
def config() -> Config:
    return read(load_preset("mae_policy"), SMALL)


def batch_of(rows: int, steps: int, choices: int = 0) -> Batch:
    random = torch.Generator().manual_seed(3)
    action = torch.rand(rows, steps, 2, generator=random) * 2 - 1
    if choices:
        places = torch.randint(choices, (rows, steps), generator=random)
        action = torch.nn.functional.one_hot(places, choices).float()
    valid = torch.ones(rows, steps, dtype=torch.bool)
    valid[0, 3:] = False
    return Batch(
        image=torch.randint(0, 256, (rows, steps, SIZE, SIZE, 3), dtype=torch.uint8),
        action=action,
        reward=torch.rand(rows, steps, generator=random),
        discount=torch.ones(rows, steps),
        valid=valid,
    )


def learning(config: Config, choices: int = 0) -> tuple[Learner, ProximalPolicy]:
    spec = Spec((SIZE, SIZE, 3), choices or 2, has_choices=bool(choices))
    learner = learner_of(config, build(config.model, spec))
    assert isinstance(learner.behaviour, ProximalPolicy)
    return learner, learner.behaviour


def test_advantages_are_the_sum_of_their_definition() -> None:
    random = torch.Generator().manual_seed(0)
    reward, value = (torch.randn(3, 7, generator=random) for _ in range(2))
    discount = torch.rand(3, 7, generator=random)
    discount[1, 4] = 0.0  # the task ended there
    valid = torch.ones(3, 7, dtype=torch.bool)
    valid[2, 5:] = False
    found = advantages(reward, discount, value, valid, 0.9)
    for b in range(3):
        for t in range(6):
            total, weight = 0.0, 1.0
            for k in range(t, 6):
                if not valid[b, k + 1]:
                    break
                apart = reward[b, k + 1] + discount[b, k + 1] * value[b, k + 1] - value[b, k]
                total += weight * float(apart)
                weight *= 0.9 * float(discount[b, k + 1])
            assert found[b, t] == pytest.approx(total, abs=1e-5), (b, t)


def test_log_probabilities_are_those_of_torch() -> None:
    features, noise = torch.randn(50, 4), torch.randn(50, 2)
    policy = Policy(4, 2, 1, 6, normed)
    torch.nn.init.normal_(policy.last.weight)
    action = policy.act(features, 0.3 * noise)
    log_prob, std = policy.judge(features, action)
    mean = policy(features)[0]
    normal = distributions.Normal(mean, std)
    above, below = (1 - normal.cdf(torch.tensor(1.0))).log(), normal.cdf(torch.tensor(-1.0)).log()
    expected = normal.log_prob(action)
    expected = torch.where(action >= 1, above, torch.where(action <= -1, below, expected))
    assert (action.abs() == 1).any()
    torch.testing.assert_close(log_prob, expected.sum(-1), atol=1e-4, rtol=1e-4)

    choices = CategoricalPolicy(4, 3, 1, 6, normed)
    torch.nn.init.normal_(choices.last.weight)
    chosen = choices.act(features, torch.randn(50, 3))
    log_prob, spread = choices.judge(features, chosen)
    categorical = distributions.Categorical(logits=spread)
    torch.testing.assert_close(log_prob, categorical.log_prob(chosen.argmax(-1)))
    torch.testing.assert_close(choices.entropy(spread), categorical.entropy())


@pytest.mark.parametrize("choices", [0, 3])
def test_the_ratio_is_one_at_first_and_then_leaves_it(config: Config, choices: int) -> None:
    learner, behaviour = learning(config, choices)
    batch = batch_of(4, 6, choices)
    first = learner.update(batch).metrics
    assert first["ratio"] == 1.0
    if choices:
        assert first["entropy"] == pytest.approx(np.log(choices), abs=1e-4)
    assert any(bool(p.grad.any()) for p in behaviour.policy.parameters() if p.grad is not None)
    for _ in range(3):
        later = learner.update(batch).metrics
    assert later["ratio"] > 1.0001
    behaviour.acted(0)  # a new round begins with what was learned
    assert learner.update(batch).metrics["ratio"] == 1.0


@pytest.mark.parametrize("frozen", [False, True])
def test_every_parameter_that_acts_learns_or_is_frozen(config: Config, frozen: bool) -> None:
    """The posterior's network stands before the policy, and no term of the objective trains it."""
    if frozen:
        net = SMALL["model"]["encoder"]
        model = {**SMALL["model"], "encoder": {"kind": "pretrained", "net": net}}
        raw = {**SMALL, "model": model}
        config = read(load_preset("mae_policy"), {**raw, "objective": {"masked_patches": None}})
    learner, behaviour = learning(config)
    reads, draws = ("encoder.", "posterior.", "policy."), ("widen", "hidden_token", "decoder")
    acting = {
        name: parameter
        for name, parameter in learner.model.named_parameters()
        if name.startswith(reads) and name.split(".")[1] not in draws
    }
    before = {name: parameter.detach().clone() for name, parameter in acting.items()}
    acted = [part.clone() for part in behaviour.acted_posterior.parameters()]
    for _ in range(3):
        learner.update(batch_of(4, 6))
    for name, parameter in acting.items():
        stays = frozen and name.startswith("encoder.")
        assert parameter.requires_grad != stays, name
        assert torch.equal(parameter, before[name]) == stays, name
    for one, other in zip(acted, behaviour.acted_posterior.parameters(), strict=True):
        assert torch.equal(one, other)  # the denominator does not move with the posterior


def test_the_policy_learns_the_better_of_two_choices(config: Config) -> None:
    learner, behaviour = learning(config, choices=2)
    random = torch.Generator().manual_seed(0)
    batch = dataclasses.replace(batch_of(8, 6, 2), valid=torch.ones(8, 6, dtype=torch.bool))
    batch = dataclasses.replace(batch, image=batch.image[:1, :1].expand_as(batch.image))
    chances = []
    for _ in range(15):  # in one situation, choice 1 brings a reward at once
        behaviour.acted(0)
        with torch.no_grad():
            features = learner.model.infer(batch, random).posterior.features
            action = behaviour.policy.act(features, torch.randn(8, 6, 2, generator=random))
            chances.append(float(behaviour.policy(features)[..., 1].exp().mean()))
        played = dataclasses.replace(batch, action=action, reward=action[..., 1])
        for _ in range(4):
            learner.update(played)
    assert chances[0] == pytest.approx(0.5, abs=1e-3)
    assert chances[-1] > 0.9


def test_padding_changes_no_loss(config: Config) -> None:
    batch = batch_of(3, 6)
    other = dataclasses.replace(batch, reward=batch.reward + 9.0 * ~batch.valid)
    losses = []
    for each in (batch, other):
        torch.manual_seed(0)
        losses.append(learning(config)[0].update(each).metrics)
    assert losses[0] == losses[1]


def test_rows_of_an_earlier_policy_are_refused(config: Config) -> None:
    learner, behaviour = learning(config)
    behaviour.acted(7)
    windows = torch.tensor([[8, 0], [6, 2]])
    with pytest.raises(ValueError, match="episode 6 of this batch was played by an earlier policy"):
        learner.update(dataclasses.replace(batch_of(2, 5), window=windows))


def test_the_copies_that_acted_are_in_the_state(config: Config) -> None:
    learner, behaviour = learning(config)
    behaviour.acted(4)
    for _ in range(2):
        learner.update(batch_of(3, 5))
    other = learning(config)[1]
    other.restore(behaviour.state())
    assert other.first_episode == 4
    kept, read_back = behaviour.state(), other.state()
    for name, tensor in kept.items():
        assert torch.equal(tensor, read_back[name]), name


def test_a_replay_draws_from_the_newest_only() -> None:
    replay = Replay(None, batch=40, length=3, memory_bytes=10**8)
    for _ in range(4):
        rows = 6
        zeros = np.zeros(rows, np.float32)
        image = np.zeros((rows, 2, 2, 3), np.uint8)
        action = np.zeros((rows, 1), np.float32)
        replay.add(Episode(image, action, zeros, zeros + 1, np.ones(rows, np.int64)))
    random = np.random.default_rng(0)
    assert set(replay.sample(random, 2).window[:, 0].tolist()) == {2, 3}
    assert set(replay.sample(random).window[:, 0].tolist()) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="from number 4 on"):
        replay.sample(random, 4)


def test_nobody_acts_while_the_policy_learns(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy whose probabilities are the denominator is the one that played."""
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    rounds: list[tuple[list[Tensor], int]] = []
    began: list[list[Tensor]] = []
    begin, learn = online.Online._begin_collecting, ProximalPolicy.acted

    def note_acting(self: online.Online, count: int) -> None:
        assert self.acting.policy is not None
        began.append([p.clone() for p in self.acting.policy.parameters()])
        begin(self, count)

    def note_acted(self: ProximalPolicy, first_episode: int) -> None:
        learn(self, first_episode)
        rounds.append(([p.clone() for p in self.acted_policy.parameters()], first_episode))

    monkeypatch.setattr(online.Online, "_begin_collecting", note_acting)
    monkeypatch.setattr(ProximalPolicy, "acted", note_acted)
    worldmodel.train(config, tmp_path / "run", steps=5 * 160)
    assert [first for _, first in rounds] == [1, 3]
    for acting, (acted, _) in zip(began, rounds, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(acting, acted, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(began[0], began[1], strict=True))


@pytest.mark.parametrize(
    ("differences", "complaint"),
    [
        (
            {"planner": {"kind": "cem"}, "exploration": {"kind": "noise"}},
            "behaviour.kind: ppo needs planner: none, got cem; write planner: none",
        ),
        (
            {"learner": {"average_rate": 0.1}},
            "behaviour.kind: ppo needs learner.average_rate: 1.0, got 0.1",
        ),
        ({"loop": {"seed_updates": 5}}, "behaviour.kind: ppo needs loop.seed_updates: 0, got 5"),
    ],
)
def test_settings_that_are_not_on_policy_are_refused(
    config: Config, differences: dict[str, Any], complaint: str
) -> None:
    assert isinstance(config.behaviour, PPO)
    with pytest.raises(ConfigError) as raised:
        read(config, differences)
    assert complaint in str(raised.value)
