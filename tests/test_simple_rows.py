"""The rows of the simple models: their twins break what they say, and figures are of right rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from worldmodel.envs import EnvSettings, make_env
from worldmodel.lecture.rows import onestep, posteriors, state_space
from worldmodel.lecture.trials import believe, record, whole
from worldmodel.models import build
from worldmodel.structs import Spec

ENV = EnvSettings(image_size=32)
SPEC = Spec((32, 32, 3), 1)


def test_windows_hold_the_states_of_their_own_rows() -> None:
    recorded = record(make_env("pendulum", ENV), 2, posteriors.ROWS, seed=0)
    batch, true = posteriors.windows(recorded)
    of_first = slice(posteriors.APART, posteriors.APART + posteriors.WINDOW)
    assert np.array_equal(batch.image[1].numpy(), recorded[0].episode.image[of_first])
    assert np.allclose(true[1, :, 2], recorded[0].state["velocity"][of_first, 0])
    assert len(batch.action) == len(true) == 6


def test_a_blind_filter_believes_the_same_whatever_came_before() -> None:
    model = build(posteriors.CONFIGS["filter"].model, SPEC)
    batch = whole(record(make_env("pendulum", ENV), 1, 6, seed=0))
    other = replace(batch, image=batch.image.roll(1, 1))
    other.image[:, 3:] = batch.image[:, 3:]
    before, changed = (posteriors.means(model, part)[:, 3:] for part in (batch, other))
    assert not torch.allclose(before, changed)
    posteriors.blind(model)
    before, changed = (posteriors.means(model, part)[:, 3:] for part in (batch, other))
    assert torch.equal(before, changed)


def test_foreseen_rows_are_five_after_the_belief() -> None:
    """One belief, imagined by hand."""
    recorded = record(make_env("pendulum", ENV), 3, state_space.ROWS, seed=0)
    batch = whole(recorded)
    model = build(state_space.CONFIG.model, SPEC)
    with torch.no_grad():
        beliefs = believe(model, batch)
        row = 7
        actions = batch.action[:, row + 1 : row + 1 + state_space.AHEAD]
        start = type(beliefs)(beliefs.mean[:, row], beliefs.std[:, row], beliefs.sample[:, row])
        imagined = model.imagine(start, actions, None)
        torch.nn.init.normal_(model.reward.last.weight)
        expected = model.reward(imagined.features[:, -1])
    found = state_space.Foreseen(model, batch)
    place = row - state_space.PAST
    assert torch.allclose(found.right[:, place], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.true[:, place], batch.reward[:, row + state_space.AHEAD])
    assert torch.equal(found.held[:, place], batch.reward[:, row])


def test_only_without_the_bar_a_gradient_reaches_the_encoded_latent() -> None:
    model = build(onestep.CONFIG.model, SPEC)
    batch = whole(record(make_env("pendulum", ENV), 2, 2, seed=0))
    random = torch.Generator().manual_seed(0)
    reached = []
    for term in (onestep.CONFIG.objective.consistency, onestep.WithoutBar()):
        seen = model.infer(batch, random)
        seen.posterior.features.retain_grad()
        assert term is not None
        term(model, seen, random)["consistency"].sum().backward()
        gradient = seen.posterior.features.grad
        reached.append(gradient is not None and bool(gradient[:, -1].abs().sum() > 0))
    assert reached == [False, True]
