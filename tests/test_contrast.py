"""Contrast: InfoNCE over the rows of a batch, its slow encoder, and models without a decoder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from worldmodel.analysis.starts import Starts
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.dream import Dream
from worldmodel.losses import Consistency, Contrastive
from worldmodel.losses.contrastive import info_nce, numbered
from worldmodel.models import WorldModel, build
from worldmodel.presets import load_preset
from worldmodel.report import visualize
from worldmodel.structs import Batch, Spec

SMALL: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {
        "encoder": {"width": 2},
        "dynamics": {"size": 6, "hidden_size": 11},
        "posterior": {"hidden_size": 7},
        "contrast": {"size": 5, "hidden_size": 8, "target_rate": 0.25},
    },
    "learner": {"precision": "float32"},
}


@pytest.fixture
def config() -> Config:
    return read(load_preset("contrastive"), SMALL)


@pytest.fixture
def model(config: Config) -> WorldModel:
    return build(config.model, Spec((16, 16, 3), 2))


def a_batch(windows: int = 2, length: int = 3) -> Batch:
    random = torch.Generator().manual_seed(3)
    return Batch(
        image=torch.randint(0, 256, (windows, length, 16, 16, 3), generator=random).byte(),
        action=torch.rand(windows, length, 2, generator=random) * 2 - 1,
        reward=torch.zeros(windows, length),
        discount=torch.ones(windows, length),
        valid=torch.ones(windows, length, dtype=torch.bool),
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def losses(model: WorldModel, batch: Batch) -> Tensor:
    """[B, T] with a weight of one"""
    seen = model.infer(batch, generator())
    return Contrastive(weight=1.0)(model, seen, generator())["contrastive"]


def values(model: WorldModel, batch: Batch) -> Tensor:
    return losses(model, batch).detach()


def by_hand(query: Tensor, keys: list[Tensor], own: int) -> float:
    """The cross-entropy of choosing ``own``, from its definition."""
    shares = [math.exp(float(query @ key) / 0.1) for key in keys]
    return -math.log(shares[own] / sum(shares))


def test_the_loss_is_the_cross_entropy_by_hand(model: WorldModel) -> None:
    batch = a_batch()
    seen = model.infer(batch, generator())
    assert model.contrast is not None
    queries = model.contrast.queries(seen.prior.features).detach()
    keys = model.contrast.keys(seen.pixels).detach()
    every = [keys[b, t] for b in range(2) for t in range(3)]
    expected = torch.tensor(
        [[by_hand(queries[b, t], every, 3 * b + t) if t else 0.0 for t in range(3)] for b in (0, 1)]
    )
    torch.testing.assert_close(values(model, batch), expected)
    both = (queries.flatten(0, 1), keys.flatten(0, 1))
    all_but_own = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(
        info_nce(*both, all_but_own, 0.1),
        functional.cross_entropy(both[0] @ both[1].T / 0.1, torch.arange(6), reduction="none"),
    )


def test_a_perfect_match_is_the_least_loss() -> None:
    """Four keys as far from each other as they can be: the corners of a tetrahedron."""
    corners = functional.normalize(
        torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), dim=-1
    )
    negative = ~torch.eye(4, dtype=torch.bool)
    least = info_nce(corners, corners, negative, 0.1)
    torch.testing.assert_close(
        least, torch.full((4,), math.log1p(3 * math.exp((-1 / 3 - 1) / 0.1)))
    )
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        others = functional.normalize(torch.randn(4, 3, generator=random), dim=-1)
        assert (info_nce(others, corners, negative, 0.1) >= least).all()
    assert (info_nce(corners.roll(1, 0), corners, negative, 0.1) > 10).all()


def test_a_copy_of_an_image_is_no_negative_of_it(model: WorldModel) -> None:
    """Row (1, 2) has the image of row (0, 1): it counts for the other rows, not for these two."""
    batch = a_batch()
    batch.image[1, 2] = batch.image[0, 1]
    which = numbered(batch.image.flatten(0, 1))
    assert which[1] == which[5]
    assert len(which.unique()) == 5
    seen = model.infer(batch, generator())
    assert model.contrast is not None
    query = model.contrast.queries(seen.prior.features).detach()
    keys = model.contrast.keys(seen.pixels).detach().flatten(0, 1)
    result = values(model, batch)
    without_the_copy = by_hand(query[0, 1], list(keys[:5]), 1)
    assert float(result[0, 1]) == pytest.approx(without_the_copy, rel=1e-5)
    assert float(result[0, 2]) == pytest.approx(by_hand(query[0, 2], list(keys), 2), rel=1e-5)


def test_padding_is_no_negative_and_has_no_loss(model: WorldModel) -> None:
    batch = a_batch()
    batch.valid[1, 2] = False
    result = values(model, batch)
    batch.image[1, 2] = 255 - batch.image[1, 2]
    torch.testing.assert_close(values(model, batch), result, rtol=0, atol=0)
    assert result[1, 2] == 0
    assert (result[:, 0] == 0).all()
    assert (result[seen_rows(batch)] > 0).all()


def seen_rows(batch: Batch) -> Tensor:
    return batch.valid & (torch.arange(3) > 0)


def test_actions_of_another_row_are_noticed(model: WorldModel) -> None:
    batch = a_batch()
    shifted = replace(batch, action=batch.action.roll(1, 1))
    assert not torch.allclose(values(model, batch), values(model, shifted))


def test_no_gradient_reaches_the_slow_encoder(model: WorldModel) -> None:
    losses(model, a_batch()).sum().backward()
    assert model.contrast is not None
    assert all(weight.grad is None for weight in model.contrast.slow_encoder.parameters())
    parts = (model.encoder, model.contrast.predict, model.contrast.project, model.dynamics)
    for part in parts:
        moved = [weight.grad for weight in part.parameters()]
        assert any(grad is not None and grad.any() for grad in moved), part


def test_the_first_image_of_a_window_teaches_the_encoder_and_the_target_does_not(
    model: WorldModel,
) -> None:
    """The encoder learns by what an image foretells, never by how an image itself is told apart."""
    batch = a_batch(2, 2)
    seen = model.infer(batch, generator())
    seen.embeds.retain_grad()
    loss = Contrastive()(model, seen, generator())["contrastive"]
    loss.sum().backward()
    assert seen.embeds.grad is not None
    assert seen.embeds.grad[:, 0].any()
    assert not seen.embeds.grad[:, 1].any()


def test_the_slow_encoder_follows_after_each_step(config: Config, model: WorldModel) -> None:
    assert model.contrast is not None
    before = [weight.clone() for weight in model.contrast.slow_encoder.parameters()]
    learner_of(config, model).update(a_batch())
    for slow, old, fast in zip(
        model.contrast.slow_encoder.parameters(), before, model.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, old + 0.25 * (fast - old))
        assert not torch.equal(slow, old)


def test_with_a_contrast_the_latents_of_images_are_kept_apart_without_a_decoder() -> None:
    model = {"decoder": None, "contrast": {}, "dynamics": {"kind": "deterministic"}}
    objective = {"image": None, "consistency": {}, "contrastive": {}, "priority": None}
    config = read(load_preset("onestep"), {"model": model, "objective": objective})
    assert config.objective.consistency == Consistency()
    with pytest.raises(ConfigError) as raised:
        read(config, {"model": {"contrast": None}, "objective": {"contrastive": None}})
    assert str(raised.value) == (
        "objective.consistency: needs decoder or contrast, and model.decoder and model.contrast are"
        " none; write objective.consistency: none"
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"objective": {"image": {}}},
            "objective.image: needs decoder, and model.decoder is none; write"
            " objective.image: none",
        ),
        (
            {"model": {"contrast": None}},
            "objective.contrastive: needs contrast, and model.contrast is none; write"
            " objective.contrastive: none",
        ),
        (
            {"objective": {"contrastive": None}},
            "model.contrast: no term of the objective trains it; write"
            " objective.contrastive.weight: 1.0 or model.contrast: none",
        ),
        (
            {"objective": {"contrastive": {"temperature": 0.0}}},
            "objective.contrastive.temperature: expected more than 0, got 0.0",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(
    config: Config, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(config, changes)
    assert str(raised.value) == complaint


def test_a_model_without_a_decoder_says_why_it_shows_nothing(
    config: Config, model: WorldModel, tmp_path: Path
) -> None:
    agent = agent_of(config, model.requires_grad_(False))
    starts = Starts(np.zeros((0, 16, 16, 3), np.uint8), model.dynamics.initial(0), 1, True)
    looks = [lambda: Dream(agent, starts), lambda: visualize(agent, [], tmp_path / "report")]
    for look in looks:
        with pytest.raises(ConfigError, match=r"^model\.decoder: none, so this model draws no"):
            look()
    assert not (tmp_path / "report").exists()
    black = torch.zeros(16, 16, 3, dtype=torch.uint8)
    belief = agent.observe(agent.initial(), agent.no_action(), black)
    assert torch.isfinite(agent.plan(belief).value)
