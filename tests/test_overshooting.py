"""Latent overshooting: priors of several steps, against a slow double loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.losses import Overshooting
from worldmodel.models import WorldModel, build
from worldmodel.models.world import Inference
from worldmodel.presets import load_preset
from worldmodel.structs import Batch, Spec, at

B, T, A = 2, 6, 3
SMALL: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"hidden_size": 11},
        "posterior": {"hidden_size": 7},
    },
}
KINDS = {
    "gaussian": {"dynamics": {"kind": "gaussian", "size": 4}},
    "recurrent": {"dynamics": {"kind": "recurrent", "deter_size": 5, "stoch_size": 4}},
    "locally_linear": {
        "dynamics": {"kind": "locally_linear", "state_size": 4},
        "posterior": {"kind": "one_step"},
    },
}


def a_model(kind: str) -> WorldModel:
    config = read(read(load_preset("filter"), {"model": KINDS[kind]}), SMALL)
    return build(config.model, Spec((16, 16, 3), A))


@pytest.fixture(params=list(KINDS))
def model(request: pytest.FixtureRequest) -> WorldModel:
    return a_model(request.param)


def a_batch() -> Batch:
    random = torch.Generator().manual_seed(3)
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[1, 4:] = False
    return Batch(
        image=torch.randint(0, 256, (B, T, 16, 16, 3), generator=random).byte(),
        action=torch.rand(B, T, A, generator=random) * 2 - 1,
        reward=torch.zeros(B, T),
        discount=torch.ones(B, T),
        valid=valid,
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def inferred(model: WorldModel, batch: Batch) -> Inference:
    return model.infer(batch, generator())


def losses(model: WorldModel, batch: Batch, **settings: Any) -> Tensor:
    seen = inferred(model, batch)
    return Overshooting(**settings)(model, seen, generator())["overshooting"]


def by_double_loop(model: WorldModel, batch: Batch, distance: int, free_nats: float) -> Tensor:
    """For each row and each distance: go so many steps from the posterior of the row before."""
    seen, random = inferred(model, batch), generator()
    size = model.dynamics.noise_size
    noise = [
        torch.randn(B, T - d, size, generator=random) for d in range(1, min(distance, T - 1) + 1)
    ]
    expected = torch.zeros(B, T)
    for row in range(T):
        for d in range(2, min(distance, row) + 1):
            start = row - d
            latent = at(seen.posterior, (slice(None), start))
            for step in range(d):
                context = model.dynamics.remember(latent, batch.action[:, start + step + 1])
                latent = model.dynamics.imagine(context, noise[step][:, start])
            aim = at(seen.posterior, (slice(None), row)).distribution
            assert aim is not None
            nats = aim.divergence(latent.distribution).clamp(min=free_nats)
            expected[:, row] += torch.where(batch.valid[:, row], nats, 0.0) / distance
    return expected


@pytest.mark.parametrize("distance", [2, 3, 9])
def test_the_loss_is_that_of_a_slow_double_loop(model: WorldModel, distance: int) -> None:
    """Also where the distance is longer than the window."""
    with torch.no_grad():
        result = losses(model, a_batch(), weight=3.0, distance=distance)
        expected = by_double_loop(model, a_batch(), distance, 0.0)
    torch.testing.assert_close(result, 3.0 * expected)
    assert (result[:, :2] == 0).all()
    assert (result[0, 2:] > 0).all()


def test_free_nats_are_of_each_distance(model: WorldModel) -> None:
    with torch.no_grad():
        result = losses(model, a_batch(), distance=3, free_nats=4.0)
        torch.testing.assert_close(result, by_double_loop(model, a_batch(), 3, 4.0))


def test_padding_has_no_loss_and_changes_none(model: WorldModel) -> None:
    batch = a_batch()
    with torch.no_grad():
        result = losses(model, batch)
        batch.image[1, 4:] = 255 - batch.image[1, 4:]
        batch.action[1, 4:] = -1.0
        torch.testing.assert_close(losses(model, batch), result, rtol=0, atol=0)
    assert (result[1, 4:] == 0).all()


def test_actions_of_another_row_are_noticed(model: WorldModel) -> None:
    batch = a_batch()
    seen = inferred(model, batch)
    other = replace(seen, batch=replace(batch, action=batch.action.roll(1, 1)))
    with torch.no_grad():
        one, shifted = (
            Overshooting()(model, each, generator())["overshooting"] for each in (seen, other)
        )
    assert not torch.isclose(one[0, 2:], shifted[0, 2:]).any()


def test_no_posterior_learns_to_be_easy_to_foresee() -> None:
    """The aim has no gradient: the image of the last row, which nothing starts from, gets none."""
    model = a_model("gaussian")
    seen = inferred(model, a_batch())
    seen.embeds.retain_grad()
    term = Overshooting(distance=3)(model, seen, generator())["overshooting"]
    term[0].sum().backward()
    assert seen.embeds.grad is not None
    assert not seen.embeds.grad[0, -2:].any()  # two steps before the end is the last start
    assert seen.embeds.grad[0, :-2].any(-1).all()


def test_settings_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(ConfigError) as raised:
        read(Config(), {"objective": {"overshooting": {"distance": 1}}})
    assert str(raised.value) == "objective.overshooting.distance: expected 2 or more, got 1"
    with pytest.raises(ConfigError) as raised:
        read(load_preset("onestep"), {"objective": {"overshooting": {}}})
    assert str(raised.value) == (
        "objective.overshooting: needs distribution, and model.dynamics.kind is deterministic;"
        " write objective.overshooting: none"
    )
