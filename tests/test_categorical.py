"""Categorical latents: their draws, their divergence, their gradient, and the model around them."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from tests.test_losses import make_batch
from tests.test_posteriors import config_of
from worldmodel import export
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.losses import KL
from worldmodel.models import WorldModel, build
from worldmodel.models.latents import EVEN_SHARE, Categorical, categorical_of
from worldmodel.structs import Spec, leaves

B, T, G, K = 2, 5, 3, 4


def random_latents() -> tuple[Tensor, Tensor]:
    """Logits of a posterior and of its prior: [B, T, G, K]"""
    return torch.randn(B, T, G, K).requires_grad_(), torch.randn(B, T, G, K).requires_grad_()


def of_torch(latent: Categorical) -> distributions.Categorical:
    return distributions.Categorical(logits=latent.log_probabilities)


def test_normal_noise_draws_classes_exactly_as_often_as_they_are_likely() -> None:
    """At the middles of n equal parts of the unit interval a class of probability p is drawn p n
    times, give or take its two ends."""
    logits, points = torch.randn(G, K), 100_000
    uniform = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    noise = torch.special.ndtri(uniform).float()[:, None].expand(points, G)
    drawn = categorical_of(logits.expand(points, G, K), noise)
    expected = (1 - EVEN_SHARE) * logits.softmax(-1) + EVEN_SHARE / K
    assert (drawn.sample.sum(-1) == 1).all()
    torch.testing.assert_close(drawn.sample.mean(0), expected, atol=3 / points, rtol=0)
    torch.testing.assert_close(drawn.log_probabilities[0].exp(), expected)


def test_the_groups_are_drawn_independently() -> None:
    drawn = categorical_of(torch.zeros(50_000, 2, 2), torch.randn(50_000, 2)).sample[..., 0]
    together = (drawn[:, 0] * drawn[:, 1]).mean()
    torch.testing.assert_close(together, torch.tensor(0.25), atol=0.01, rtol=0)


def test_extreme_noise_draws_the_first_or_the_last_class_and_none_the_most_likely() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    for noise, place in ((-40.0, 0), (40.0, 2)):
        assert categorical_of(logits, torch.tensor([noise])).sample.argmax() == place
    assert categorical_of(logits, None).sample.tolist() == [[0, 1, 0]]


def test_no_class_is_impossible() -> None:
    sure = categorical_of(torch.tensor([[200.0, 0.0, -200.0]]), None)
    lowest = sure.log_probabilities.exp().min().item()
    assert lowest == pytest.approx(EVEN_SHARE / 3, rel=1e-4)


def test_the_divergence_is_that_of_torch() -> None:
    posterior, prior = (categorical_of(logits, None) for logits in random_latents())
    expected = distributions.kl_divergence(of_torch(posterior), of_torch(prior)).sum(-1)
    torch.testing.assert_close(posterior.divergence(prior), expected)
    assert (posterior.divergence(posterior) == 0).all()


def test_forwards_the_class_backwards_the_probabilities() -> None:
    logits, _ = random_latents()
    worth = torch.randn(G, K)
    latent = categorical_of(logits, torch.randn(B, T, G))
    assert sorted(latent.sample.detach().unique().round(decimals=5).tolist()) == [0, 1]
    through = torch.autograd.grad((latent.sample * worth).sum(), logits, retain_graph=True)[0]
    expected = torch.autograd.grad((latent.log_probabilities.exp() * worth).sum(), logits)[0]
    torch.testing.assert_close(through, expected)
    assert expected.abs().min() > 0


def test_balance_and_free_nats_are_the_same_for_classes() -> None:
    logits = random_latents()
    posterior, prior = (categorical_of(each, None) for each in logits)
    nats = posterior.divergence(prior)
    free = float(nats.detach().quantile(0.5))  # between two of the ten
    plain = torch.autograd.grad(nats.sum(), logits, retain_graph=True)
    seen: Any = types.SimpleNamespace(posterior=posterior, prior=prior)
    unused: Any = None
    term = KL(dynamics=0.8, representation=0.1, free_nats=free)(unused, seen, torch.Generator())
    pulls = torch.autograd.grad(sum(term.values()).sum(), logits)  # type: ignore[union-attr]
    for pull, weight, full in zip(pulls, (0.1, 0.8), plain, strict=True):
        above = (nats > free)[..., None, None]
        torch.testing.assert_close(pull, weight * full * above)


# --- the model ---------------------------------------------------------------------------------


@pytest.fixture
def model() -> WorldModel:
    return build(config_of("recurrent_categorical", "filter").model, Spec((16, 16, 3), 2))


def test_all_that_an_image_adds_are_classes(model: WorldModel) -> None:
    dynamics: Any = model.dynamics
    noise = torch.randn(B, T, dynamics.noise_size)
    embeds = torch.randn(B, T, 256)
    _, latent = model.observe(torch.randn(B, T, 2), embeds, torch.ones(B, T).bool(), noise)
    memory, classes = latent.features.tensor_split([dynamics.deter_size], -1)
    assert latent.shape == (B, T)
    one_hot = classes.unflatten(-1, (dynamics.groups, dynamics.classes))
    torch.testing.assert_close(one_hot.sum(-1), torch.ones(B, T, dynamics.groups))
    assert torch.equal(memory, leaves(latent)["deter"])


def test_the_images_error_reaches_the_encoder_through_the_drawn_classes(model: WorldModel) -> None:
    seen = model.infer(make_batch(B, T), torch.Generator().manual_seed(0))
    error = model.decoder(seen.posterior).square().sum()
    for pull in torch.autograd.grad(error, [*model.encoder.parameters()]):
        assert pull.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_table_of_operators")
@pytest.mark.parametrize("sampled", [False, True])
def test_an_export_believes_and_imagines_as_the_original(
    model: WorldModel, sampled: bool, tmp_path: Path
) -> None:
    torch.nn.init.normal_(model.reward.last.weight)  # else all candidates are alike
    config = config_of("recurrent_categorical", "filter")
    agent = agent_of(read(config, {"planning": {"sampled": sampled}}), model)
    export.write(export.record(agent), tmp_path / "export", made_from={})
    assert export.difference(agent, export.Runner(tmp_path / "export"), steps=3) <= 1e-4


def test_a_unit_gaussian_is_no_prior_of_classes() -> None:
    with pytest.raises(ConfigError) as raised:
        read(
            Config(),
            {
                "model": {"dynamics": {"kind": "recurrent_categorical"}},
                "objective": {"unit_kl": {}},
            },
        )
    assert str(raised.value) == (
        "objective.unit_kl: needs gaussian, and model.dynamics.kind is recurrent_categorical; write"
        " objective.unit_kl: none"
    )


def test_ilqr_refuses_classes_before_anything_is_created() -> None:
    with pytest.raises(ConfigError) as raised:
        read(
            config_of("recurrent_categorical", "filter"),
            {"planner": {"kind": "ilqr"}, "planning": {"goal": {}, "proposals": 0}},
        )
    assert str(raised.value) == (
        "planner.kind: ilqr needs the derivatives of a flat latent, which model.dynamics.kind ="
        " recurrent_categorical does not have; write planner.kind: cem"
    )
