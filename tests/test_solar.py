"""SOLAR: latents under a linear prior that is fitted from their rows, and its regulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from worldmodel.agent import Agent
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.linear import LinearGaussian
from worldmodel.losses import KL
from worldmodel.models import WorldModel, build
from worldmodel.models.dynamics import FittedLinear
from worldmodel.models.dynamics.fitted_linear import FittedLinearSettings
from worldmodel.models.latents import Correlated, Gaussian, Timed
from worldmodel.models.time_varying import TimeVarying
from worldmodel.models.world import Inference
from worldmodel.presets import load_preset
from worldmodel.structs import Batch, Episode, Spec, at

B, T, A, S = 2, 5, 3, 4

SOLAR: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "posterior": {"kind": "one_step", "hidden_size": 7},
        "dynamics": {"kind": "fitted_linear", "state_size": S},
        "reward": None,
        "discount": None,
        "value": None,
        "policy": None,
    },
    "objective": {
        "kl": {"first_row": "initial"},
        "reward": None,
        "discount": None,
        "priority": None,
    },
    "behaviour": None,
    "planning": {"proposals": 0},
    "learner": {"precision": "float32"},
}


@pytest.fixture
def model() -> WorldModel:
    config = read(Config(), SOLAR)
    torch.manual_seed(0)
    return build(config.model, Spec(image=(16, 16, 3), action_size=A))


def windows(seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        image=torch.randint(256, (B, T, 16, 16, 3), generator=random, dtype=torch.uint8),
        action=torch.randn(B, T, A, generator=random),
        reward=torch.zeros(B, T),
        discount=torch.ones(B, T),
        valid=torch.ones(B, T, dtype=torch.bool),
    )


def infer(model: WorldModel, batch: Batch, seed: int = 0) -> Inference:
    return model.infer(batch, torch.Generator().manual_seed(seed))


def linear(seed: int = 0, noise: float = 0.01) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of windows [B, T, S], their actions, and the matrix [S, S + A] that made them."""
    random = torch.Generator().manual_seed(seed)
    matrix = 0.4 * torch.randn(S, S + A, generator=random)
    actions = torch.randn(40, T, A, generator=random)
    latents = [torch.randn(40, S, generator=random)]
    for row in range(1, T):
        joint = torch.cat([latents[-1], actions[:, row]], -1)
        latents.append(joint @ matrix.mT + noise * torch.randn(40, S, generator=random))
    return torch.stack(latents, 1), actions, matrix


def test_the_divergence_from_a_correlated_prior_is_that_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    mean, sample = torch.randn(B, S, generator=random), torch.randn(B, S, generator=random)
    factor = torch.randn(B, S, S, generator=random).tril(-1) + 0.7 * torch.eye(S)
    posterior = Gaussian(sample, torch.rand(B, S, generator=random) + 0.1, sample)
    prior = Correlated(mean, factor, mean)
    expected = kl_divergence(
        MultivariateNormal(posterior.mean, scale_tril=torch.diag_embed(posterior.std)),
        MultivariateNormal(mean, scale_tril=factor),
    )
    torch.testing.assert_close(posterior.divergence(prior), expected)
    torch.testing.assert_close(prior.std.square(), (factor @ factor.mT).diagonal(dim1=-2, dim2=-1))


def test_the_step_is_the_one_that_made_the_latents_and_a_state_dict_has_it() -> None:
    latents, actions, matrix = linear()
    dynamics = FittedLinear(FittedLinearSettings(state_size=S), A)
    follows = torch.arange(T).expand(40, T) > 0
    dynamics.absorb(latents, actions, follows)
    error = torch.linalg.matrix_norm(dynamics.matrix - matrix)
    assert error <= 0.05 * torch.linalg.matrix_norm(matrix)
    again = FittedLinear(FittedLinearSettings(state_size=S), A)
    again.load_state_dict(dynamics.state_dict())
    for fit in (dynamics, again):  # both go on in the same way
        fit.absorb(latents + 1, actions, follows)
    assert torch.equal(again.matrix, dynamics.matrix)
    assert torch.equal(again.factor, dynamics.factor)


def test_a_row_is_paired_with_the_action_that_led_to_it_and_padding_with_nothing() -> None:
    latents, actions, matrix = linear()
    follows = torch.arange(T).expand(40, T) > 0
    shifted, padded = (FittedLinear(FittedLinearSettings(state_size=S), A) for _ in range(2))
    shifted.absorb(latents, actions.roll(-1, 1), follows)
    size = torch.linalg.matrix_norm(matrix)
    assert torch.linalg.matrix_norm(shifted.matrix - matrix) > 0.3 * size
    latents[:, -1] = 99.0
    padded.absorb(latents, actions, follows & (torch.arange(T) < T - 1))
    assert torch.linalg.matrix_norm(padded.matrix - matrix) <= 0.05 * size


def test_imagined_samples_have_the_fitted_covariance() -> None:
    dynamics = FittedLinear(FittedLinearSettings(state_size=S), A)
    dynamics.absorb(*linear(noise=0.5)[:2], torch.arange(T).expand(40, T) > 0)
    belief = dynamics.initial(20_000)
    noise = torch.randn(20_000, S, generator=torch.Generator().manual_seed(0))
    drawn = dynamics.imagine(dynamics.remember(belief, torch.zeros(20_000, A)), noise)
    expected = dynamics.factor @ dynamics.factor.mT
    torch.testing.assert_close(torch.cov(drawn.features.mT), expected, atol=0.02, rtol=0.05)
    torch.testing.assert_close(drawn.features.mean(0), dynamics.offset, atol=0.02, rtol=0)


def test_a_belief_counts_its_rows(model: WorldModel) -> None:
    batch = windows()
    posterior = infer(model, batch).posterior
    assert isinstance(posterior, Timed)
    assert posterior.row.tolist() == [[*range(T)]] * B
    later = model.imagine(at(posterior, (slice(None), -1)), batch.action, None)
    assert isinstance(later, Timed)
    assert later.row.tolist() == [[*range(T, 2 * T)]] * B
    assert later.features.shape == (B, T, S)


def test_the_kl_to_the_fitted_prior_moves_encoder_and_earlier_latents(model: WorldModel) -> None:
    seen = infer(model, windows())
    terms = KL(dynamics=1.0, representation=1.0, free_nats=0.0, first_row="initial")(
        model, seen, torch.Generator()
    )
    first = seen.posterior.distribution
    assert isinstance(first, Gaussian)
    unit = MultivariateNormal(torch.zeros(S), torch.eye(S))
    own = MultivariateNormal(first.mean[:, 0], scale_tril=torch.diag_embed(first.std[:, 0]))
    torch.testing.assert_close(terms["kl_dynamics"][:, 0], kl_divergence(own, unit))
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in [*model.encoder.named_parameters(), *model.posterior.named_parameters()]:
        assert parameter.grad is not None, name


def test_a_posterior_of_other_latents_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.posterior\.kind: deterministic gives the numbers"
    ):
        read(
            Config(), {**SOLAR, "model": {**SOLAR["model"], "posterior": {"kind": "deterministic"}}}
        )


def test_nothing_is_fitted_from_rows_without_a_row_before(model: WorldModel) -> None:
    before = {name: part.clone() for name, part in model.dynamics.state_dict().items()}
    batch = windows()
    model.stepped(replace(infer(model, batch), follows=torch.zeros(B, T, dtype=torch.bool)))
    for name, part in model.dynamics.state_dict().items():
        assert torch.equal(part, before[name])


# The policy and its behaviour.

SMALL: dict[str, Any] = {
    "env": {"image_size": 16, "frames": 1},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "posterior": {"hidden_size": 7},
        "dynamics": {"state_size": S},
        "policy": {"rows": 6},
    },
    "learner": {"precision": "float32"},
    "planning": {"precision": "float32"},
}


@pytest.fixture
def config() -> Config:
    return read(load_preset("solar"), SMALL)


@pytest.fixture
def acting(config: Config) -> WorldModel:
    torch.manual_seed(0)
    return build(config.model, Spec(image=(16, 16, 3), action_size=A))


def policy_of(model: WorldModel) -> TimeVarying:
    assert isinstance(model.policy, TimeVarying)
    return model.policy


def episodes(count: int, rows: int, seed: int = 0) -> list[Episode]:
    """The reward of a row is the product of its first action and the brightness of its image."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        image = np.full((rows, 16, 16, 3), 128, np.uint8)
        image[:] = random.integers(100, 156, (rows, 1, 1, 1))
        action = random.uniform(-1, 1, (rows, A)).astype(np.float32)
        action[0] = 0.0
        reward = (-(action[:, 0] ** 2)).astype(np.float32)
        ones = np.ones(rows, np.float32)
        made.append(Episode(image, action, reward, ones, np.ones(rows, np.int64)))
    return made


def test_each_row_has_its_own_gains_and_later_ones_those_of_the_last(acting: WorldModel) -> None:
    policy = policy_of(acting)
    random = torch.Generator().manual_seed(0)
    written = LinearGaussian(
        gain=0.01 * torch.randn(6, A, S, generator=random).double(),
        push=0.1 * torch.randn(6, A, generator=random).double(),
        covariance=torch.eye(A).double().expand(6, -1, -1) * 0.04,
    )
    policy.write(written)
    latents = torch.randn(9, S, generator=random)
    situations = torch.cat([torch.arange(9.0)[:, None], latents], -1)
    for row in range(9):
        known = min(row, 5)
        expected = written.gain[known].float() @ latents[row] + written.push[known].float()
        torch.testing.assert_close(policy.act(situations[row], None), expected)
    drawn = policy.act(situations[0].expand(5000, -1), torch.randn(5000, A, generator=random))
    assert drawn.std(0).tolist() == pytest.approx([0.2] * A, rel=0.05)
    read_back = policy.read()
    for name, part in vars(written).items():
        torch.testing.assert_close(vars(read_back)[name], part, atol=1e-6, rtol=1e-5)


def test_an_agent_acts_by_the_gains_of_the_row_it_is_in(acting: WorldModel, config: Config) -> None:
    policy_of(acting).push.copy_(torch.linspace(-0.5, 0.5, 6)[:, None].expand(-1, A))
    agent: Agent = agent_of(config, acting)
    belief, action = agent.initial(), agent.no_action()
    for row in range(8):
        belief = agent.observe(belief, action, np.zeros((16, 16, 3), np.uint8))
        plan = agent.plan(belief)
        assert plan.first.tolist() == pytest.approx([-0.5 + 0.2 * min(row, 5)] * A)
        assert agent.act(belief).tolist() == plan.first.tolist()


def test_a_round_improves_the_policy_of_both_models_within_the_bound(config: Config) -> None:
    torch.manual_seed(0)
    model = build(config.model, Spec(image=(16, 16, 3), action_size=A))
    learner = learner_of(config, model)
    before = {name: part.clone() for name, part in policy_of(model).state_dict().items()}
    figures = learner.collected(episodes(5, rows=6))
    assert 0 < figures["policy_kl"] <= 20.0
    for name, part in policy_of(model).state_dict().items():
        assert torch.equal(part, policy_of(learner.averaged).state_dict()[name])
        assert not torch.equal(part[:5], before[name][:5])
        assert torch.equal(part[5:], before[name][5:])  # episodes of 6 rows have 5 actions
    # actions cost their square, so the new policy varies less in that number than in the others
    spread = policy_of(model).factor[:5].square().sum(-1).mean(0)
    assert spread[0] < 0.5 * spread[1:].min()


def test_an_update_of_the_objective_moves_no_policy(config: Config) -> None:
    torch.manual_seed(0)
    model = build(config.model, Spec(image=(16, 16, 3), action_size=A))
    learner = learner_of(config, model)
    before = {name: part.clone() for name, part in policy_of(model).state_dict().items()}
    fitted = model.dynamics.state_dict()["matrix"].clone()
    learner.update(windows())
    assert not torch.equal(model.dynamics.state_dict()["matrix"], fitted)
    averaged = learner.averaged.dynamics.state_dict()
    for name, part in model.dynamics.state_dict().items():
        assert torch.equal(averaged[name], part)
    for name, part in policy_of(model).state_dict().items():
        assert torch.equal(part, before[name])


def test_the_policy_needs_latents_that_count_rows_and_the_behaviour_that_policy() -> None:
    with pytest.raises(ConfigError) as raised:
        read(load_preset("solar"), {"model": {"dynamics": {"kind": "gaussian"}}})
    assert str(raised.value) == (
        "model.policy.kind: time_varying has gains for each row, and latents of"
        " model.dynamics.kind = gaussian count no rows; write model.dynamics.kind: fitted_linear"
    )
    with pytest.raises(ConfigError, match=r"behaviour: needs time-varying policy, and .*is tanh"):
        read(load_preset("solar"), {"model": {"policy": {"kind": "tanh_normal"}}})
    with pytest.raises(ConfigError, match=r"time_varying gives numbers, and here an action is one"):
        build(load_preset("solar").model, Spec(image=(64, 64, 3), action_size=4, has_choices=True))
