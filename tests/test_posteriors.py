"""Laws of dynamics and posteriors: what each may read, and what each must not."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

from tests.conftest import TINY
from tests.test_losses import make_batch
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.losses import KL, Acting, Consistency
from worldmodel.models import WorldModel, build
from worldmodel.models.dynamics.deterministic import DeterministicDynamics, DeterministicSettings
from worldmodel.models.imagination import Imagination
from worldmodel.models.latents import Gaussian, Point, gaussian_of
from worldmodel.models.posteriors.one_step import OneStep
from worldmodel.models.roll import follow_images, given, roll
from worldmodel.models.world import Inference
from worldmodel.structs import Spec, at

B, T, A, E, S = 2, 5, 3, 256, 4
VALID = torch.ones(B, T, dtype=torch.bool)
SMALL = {
    "recurrent": {"deter_size": 7, "stoch_size": S, "hidden_size": 11},
    "recurrent_categorical": {"deter_size": 7, "groups": 3, "classes": S, "hidden_size": 11},
    "gaussian": {"size": S, "hidden_size": 11},
    "deterministic": {"size": S, "hidden_size": 11},
}
PAIRS = [
    ("recurrent", "one_step"),
    ("recurrent", "smoother"),
    ("recurrent_categorical", "filter"),
    ("recurrent_categorical", "smoother"),
    ("gaussian", "one_step"),
    ("gaussian", "filter"),
    ("gaussian", "smoother"),
    ("deterministic", "deterministic"),
]
OBJECTIVES: dict[str, Any] = {
    "recurrent_categorical": {"kl": {"free_nats": 0.0}},  # of so few classes all nats are free
    "smoother": {"acting": {"weight": 1.0}},
    "deterministic": {"kl": "none", "consistency": {"weight": 2.0}, "priority": "none"},
}
NAMES = ["-".join(pair) for pair in PAIRS]


def config_of(dynamics: str, posterior: str) -> Config:
    base = read(Config(), TINY)
    parts = {
        "dynamics": {"kind": dynamics, **SMALL[dynamics]},
        "posterior": {"kind": posterior, "hidden_size": 11},
    }
    objective = OBJECTIVES.get(dynamics, {}) | OBJECTIVES.get(posterior, {})
    return read(base, {"model": parts, "objective": objective})


def model_of(dynamics: str, posterior: str) -> WorldModel:
    return build(config_of(dynamics, posterior).model, Spec((16, 16, 3), A))


@pytest.fixture(params=PAIRS, ids=NAMES)
def model(request: pytest.FixtureRequest) -> WorldModel:
    return model_of(*request.param)


@pytest.fixture
def smoothing() -> WorldModel:
    return model_of("gaussian", "smoother")


def window(model: WorldModel) -> tuple[Tensor, Tensor, Tensor]:
    noise_size = model.dynamics.noise_size
    return torch.randn(B, T, A), torch.randn(B, T, E), torch.randn(B, T, noise_size)


def test_an_agents_beliefs_along_a_window_are_its_beliefs_step_by_step(model: WorldModel) -> None:
    images = torch.randint(0, 256, (B, T, 16, 16, 3)).byte()
    actions = torch.randn(B, T, A)
    with torch.no_grad():
        together = model.beliefs(actions, model.embed(images).float(), VALID)
        latent = model.dynamics.initial(B)
        for t in range(T):
            latent = model.observe_step(latent, actions[:, t], images[:, t])
            expected = at(together, (slice(None), t))
            torch.testing.assert_close(latent.features, expected.features)


def test_no_later_image_changes_a_belief_to_act_on(model: WorldModel) -> None:
    actions, embeds, _ = window(model)
    before = model.beliefs(actions, embeds, VALID).features
    embeds[:, 3] += 1.0
    after = model.beliefs(actions, embeds, VALID).features
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3], after[:, 3]).all()


def test_a_later_image_and_a_later_action_change_what_the_smoother_learns_from(
    smoothing: WorldModel,
) -> None:
    actions, embeds, noise = window(smoothing)
    before = smoothing.observe(actions, embeds, VALID, noise)[1].features
    for changed in (embeds, actions):
        changed[:, 3] += 1.0
        after = smoothing.observe(actions, embeds, VALID, noise)[1].features
        assert not torch.isclose(before[:, 0], after[:, 0]).all()
        before = after


def test_only_the_later_rows_are_read_backwards(smoothing: WorldModel) -> None:
    """An action that led to an image is read with this image: by earlier rows, and no others."""
    actions, embeds, _ = window(smoothing)
    actions.requires_grad_()
    evidence = smoothing.posterior.evidence(embeds, actions, VALID)
    for row in range(T):
        pull = torch.autograd.grad(evidence[:, row].sum(), actions, retain_graph=True)[0]
        assert pull.abs().sum((0, 2)).ne(0).tolist() == [later > row for later in range(T)]


def test_padding_is_not_a_future(smoothing: WorldModel) -> None:
    actions, embeds, noise = window(smoothing)
    valid = VALID.clone()
    valid[0, 3:] = False
    before = smoothing.observe(actions, embeds, valid, noise)[1].features
    actions[0, 3:], embeds[0, 3:] = 9.0, 9.0
    after = smoothing.observe(actions, embeds, valid, noise)[1].features
    assert torch.equal(before[0, :3], after[0, :3])
    short = actions[:1, :3], embeds[:1, :3], VALID[:1, :3], noise[:1, :3]
    alone = smoothing.observe(*short)[1].features
    torch.testing.assert_close(before[:1, :3], alone)


def test_the_prior_of_a_row_reads_its_action_and_no_image_of_it(model: WorldModel) -> None:
    actions, embeds, noise = window(model)
    actions.requires_grad_()
    contexts, _ = model.observe(actions, embeds, VALID, noise)
    prior = model.dynamics.imagine(contexts, None).features
    pull = torch.autograd.grad(prior[:, 3].sum(), actions)[0].abs().sum((0, 2))
    assert pull[3] > 0
    if model.posterior.acting is model.posterior:  # a smoother's past knows the future
        assert pull[4] == 0
        embeds[:, 3] += 1.0
        contexts, _ = model.observe(actions, embeds, VALID, noise)
        assert torch.equal(prior[:, 3], model.dynamics.imagine(contexts, None).features[:, 3])


def test_a_one_step_posterior_reads_no_other_row() -> None:
    model = model_of("gaussian", "one_step")
    actions, embeds, noise = window(model)
    before = model.observe(actions, embeds, VALID, noise)[1].features
    embeds[:, 2] += 1.0
    after = model.observe(actions + 1.0, embeds, VALID, noise)[1].features
    assert torch.equal(before[:, [0, 1, 3, 4]], after[:, [0, 1, 3, 4]])
    assert not torch.isclose(before[:, 2], after[:, 2]).any(-1).all()


def test_windows_of_a_batch_do_not_mix(model: WorldModel) -> None:
    actions, embeds, noise = window(model)
    before = model.observe(actions, embeds, VALID, noise)[1].features
    actions[1] += 1.0
    embeds[1] += 1.0
    after = model.observe(actions, embeds, VALID, noise)[1].features
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all()


@pytest.mark.parametrize("dynamics", ["gaussian", "deterministic"])
def test_a_flat_state_steps_as_the_mean_is_imagined(dynamics: str) -> None:
    part: Any = model_of(dynamics, {"gaussian": "filter"}.get(dynamics, dynamics)).dynamics
    actions = torch.randn(B, 2, A)
    _, ahead = roll(part, part.initial(B), given(actions), 2, None)
    first, second = (at(ahead, (slice(None), row)) for row in range(2))
    stepped = part.step(part.state(first), actions[:, 1])
    torch.testing.assert_close(part.features_of(stepped), second.features)


def test_fast_layers_imagine_what_the_model_imagines(model: WorldModel) -> None:
    belief, actions = model.dynamics.initial(B), torch.rand(B, 6, 4, A)
    with torch.no_grad():
        fast = Imagination(model, torch.float32).imagine(belief, actions, None)
        own = Imagination(model, None).imagine(belief, actions, None)
    torch.testing.assert_close(fast.features, own.features, atol=1e-5, rtol=1e-4)


def test_a_gaussian_from_numbers_is_that_of_torch() -> None:
    numbers, noise = torch.randn(B, 2 * S), torch.randn(B, S)
    latent = gaussian_of(numbers, 0.1, noise)
    mean, raw = numbers.chunk(2, -1)
    std = nn.functional.softplus(raw) + 0.1
    log_prob = distributions.Normal(mean, std).log_prob(latent.sample)
    expected = -0.5 * noise.square() - std.log() - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(log_prob, expected)


# --- terms ------------------------------------------------------------------------------------


def seen_as(posterior: Any, prior: Any) -> Any:
    follows = torch.ones(posterior.shape, dtype=torch.bool)
    follows[:, 0] = False
    return types.SimpleNamespace(posterior=posterior, prior=prior, follows=follows)


def random_gaussian() -> Gaussian:
    mean = torch.randn(B, T, S)
    return Gaussian(mean, torch.rand(B, T, S) + 0.2, mean)


@pytest.mark.parametrize("first_row", ["predicted", "initial"])
def test_the_kl_of_a_first_row_is_to_the_prior_that_is_asked_for(first_row: Any) -> None:
    model = model_of("gaussian", "filter")
    posterior, prior = random_gaussian(), random_gaussian()
    term = KL(dynamics=1.0, representation=0.0, free_nats=0.0, first_row=first_row)
    nats = term(model, seen_as(posterior, prior), torch.Generator())["kl_dynamics"]
    mean, std = prior.mean.clone(), prior.std.clone()
    if first_row == "initial":
        mean[:, 0], std[:, 0] = 0.0, 1.0
    expected = distributions.kl_divergence(
        distributions.Normal(posterior.mean, posterior.std), distributions.Normal(mean, std)
    ).sum(-1)
    torch.testing.assert_close(nats, expected)


def test_consistency_is_a_log_probability_and_its_target_stays() -> None:
    posterior = Point(torch.randn(B, T, S).requires_grad_())
    prior = Point(torch.randn(B, T, S).requires_grad_())
    unused: Any = None
    term = Consistency(weight=3.0)(unused, seen_as(posterior, prior), torch.Generator())
    log_prob = distributions.Normal(prior.z, 1.0).log_prob(posterior.z).sum(-1)
    expected = -3.0 * (log_prob + 0.5 * S * np.log(2 * np.pi))
    torch.testing.assert_close(term["consistency"][:, 1:], expected[:, 1:])
    assert (term["consistency"][:, 0] == 0).all()
    term["consistency"].sum().backward()
    assert posterior.z.grad is None
    assert prior.z.grad is not None


def linear_by_relu(layers: nn.Module, matrix: Tensor) -> None:
    """Set a network of ReLU layers to a linear function, through pairs of x and -x."""
    *hidden, last = (part for part in layers.modules() if isinstance(part, nn.Linear))
    size = matrix.shape[1]
    pair = torch.cat([torch.eye(size), -torch.eye(size)])  # [2 S, S]
    with torch.no_grad():
        for number, layer in enumerate(hidden):
            layer.bias.zero_()
            layer.weight.copy_(pair if number == 0 else torch.eye(2 * size))
        last.bias.zero_()
        last.weight.copy_(matrix @ pair.T)


def test_actions_of_another_row_are_not_consistent() -> None:
    """Dynamics that add the action, and images that show the sum: exact, if rows are aligned."""
    settings = DeterministicSettings(size=A, hidden_size=4 * A)
    dynamics = DeterministicDynamics(settings, A, "plain")
    linear_by_relu(nn.Sequential(dynamics.join, dynamics.prior), torch.eye(A).repeat(1, 2))
    posterior = OneStep(A, 2 * A, A, "plain")
    linear_by_relu(posterior, torch.eye(A))
    actions = torch.randn(B, T, A)
    images = actions.cumsum(1)

    def apart(actions: Tensor) -> Tensor:
        begin, evidence = dynamics.initial(B), posterior.evidence(images, actions, VALID)
        contexts, seen = follow_images(dynamics, posterior, begin, actions, evidence, None)
        unused: Any = None
        rows = seen_as(seen, dynamics.imagine(contexts, None))
        return Consistency()(unused, rows, torch.Generator())["consistency"]

    assert apart(actions).max() < 1e-9
    assert apart(actions.roll(1, dims=1))[:, 1:].min() > 1e-3


def inferred(model: WorldModel) -> Inference:
    torch.manual_seed(3)
    batch = make_batch(B, T)
    batch = type(batch)(**{**vars(batch), "action": torch.rand(B, T, A) * 2 - 1})
    return model.infer(batch, torch.Generator().manual_seed(0))


def test_the_acting_filter_learns_the_smoothers_belief_and_leaves_it_alone(
    smoothing: WorldModel,
) -> None:
    seen = inferred(smoothing)
    term = Acting(weight=2.0)(smoothing, seen, torch.Generator())["acting"]
    acting: Any = smoothing.beliefs(seen.batch.action, seen.embeds, VALID)
    target: Any = seen.posterior
    expected = distributions.kl_divergence(
        distributions.Normal(target.mean, target.std), distributions.Normal(acting.mean, acting.std)
    ).sum(-1)
    torch.testing.assert_close(term, 2.0 * expected)
    term.sum().backward()
    moved = {name for name, weight in smoothing.named_parameters() if weight.grad is not None}
    assert {".".join(name.split(".")[:2]) for name in moved} == {
        "posterior.acting",
        "dynamics.join",
    }


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_the_gradient_reaches_every_parameter(pair: tuple[str, str]) -> None:
    config = config_of(*pair)
    torch.manual_seed(0)
    model = build(config.model, Spec((16, 16, 3), 2))
    learner = learner_of(config, model)
    for _ in range(2):  # the heads' last layers begin at zero
        learner.update(make_batch(3, 6))
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, name
            assert weight.grad.abs().sum() > 0, name


# --- who acts, and what is refused -------------------------------------------------------------


def first_belief(agent: Agent) -> Tensor:
    image = np.full((16, 16, 3), 100, np.uint8)
    return agent.observe(agent.initial(), agent.no_action(), image).features


def test_the_smoothers_filter_is_what_acts(smoothing: WorldModel) -> None:
    config = config_of("gaussian", "smoother")
    before = first_belief(agent_of(config, smoothing))
    posterior: Any = smoothing.posterior
    with torch.no_grad():
        for part in (posterior.of_all, posterior.cell):
            for weight in part.parameters():
                weight.add_(0.5)
    assert torch.equal(first_belief(agent_of(config, smoothing)), before)
    with torch.no_grad():
        posterior.acting.rest[-1].bias.add_(0.5)
    assert not torch.isclose(first_belief(agent_of(config, smoothing)), before).any()


def test_a_smoother_without_a_filter_learns_and_does_not_act() -> None:
    base = config_of("gaussian", "smoother")
    config = read(
        base, {"model": {"posterior": {"acting_filter": False}}, "objective": {"acting": "none"}}
    )
    model = build(config.model, Spec((16, 16, 3), 2))
    assert np.isfinite(learner_of(config, model).update(make_batch(2, 4)).metrics["kl_dynamics"])
    with pytest.raises(ConfigError) as raised:
        agent_of(config, model)
    assert str(raised.value) == (
        "agent: this model's posterior reads later images, which do not exist yet when an agent"
        " acts, and it has no filter to act with; train it with model.posterior.acting_filter:"
        " true and objective.acting.weight: 1.0"
    )


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (
            {"model": {"dynamics": {"kind": "deterministic"}}},
            "objective.kl: needs distribution, and model.dynamics.kind is deterministic; write"
            " objective.kl: none",
        ),
        (
            {
                "model": {"dynamics": {"kind": "deterministic"}},
                "objective": OBJECTIVES["deterministic"],
            },
            "model.posterior.kind: filter gives the numbers of latents that are gaussian or"
            " remembered; those of model.dynamics.kind = deterministic are point; write"
            " model.posterior.kind: deterministic",
        ),
        (
            {"objective": {"consistency": {"weight": 1.0}}},
            "objective.consistency: needs point, and model.dynamics.kind is recurrent; write"
            " objective.consistency: none",
        ),
        (
            {"objective": {"acting": {"weight": 1.0}}},
            "objective.acting: needs acting_filter, and model.posterior (filter) has none; write"
            " objective.acting: none",
        ),
        (
            {"model": {"posterior": {"kind": "smoother"}}},
            "model.posterior.kind: smoother has an acting_filter, and no term of the objective"
            " trains it; write objective.acting.weight: 1.0",
        ),
        (
            {"objective": {"priority": "consistency"}},
            "objective.priority: consistency is a loss of objective.consistency, which is none;"
            " write objective.priority: none",
        ),
    ],
    ids=["kl", "posterior", "consistency", "acting", "smoother", "priority"],
)
def test_parts_that_do_not_fit_are_refused(said: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(Config(), said)
    assert str(raised.value) == answer
