"""Pruning: half of the weights become zero, and the layers' outputs change little."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.export import pruning
from worldmodel.models import WorldModel, build
from worldmodel.replay import write_episode
from worldmodel.structs import Episode, Spec

SIZES = {
    "encoder": {"width": 2},
    "dynamics": {"deter_size": 24, "stoch_size": 6, "hidden_size": 20},
    "reward": {"layers": 1, "size": 18},
}


EXPORTED = ("encoder", "dynamics", "posterior", "reward", "discount", "slow_value", "policy")


@pytest.fixture
def agent(tiny: Config) -> Agent:
    config = read(tiny, {"model": SIZES})
    model = build(config.model, Spec((16, 16, 3), 2))
    for parameter in model.parameters():  # heads start at zero
        nn.init.normal_(parameter, std=0.3)
    return agent_of(config, model.requires_grad_(False))


def make_episode(rows: int, seed: int) -> Episode:
    """An episode whose images vary in few directions, as a camera's do: three objects blink."""
    things = np.random.default_rng(0).uniform(0, 85, (3, 16, 16, 3))
    random = np.random.default_rng(seed)
    return Episode(
        image=np.tensordot(random.random((rows, 3)), things, 1).astype(np.uint8),
        action=random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        reward=np.zeros(rows, np.float32),
        discount=np.ones(rows, np.float32),
        env_steps=np.ones(rows, np.int64),
    )


@pytest.fixture
def newest() -> list[Episode]:
    return [make_episode(rows, rows) for rows in (30, 50)]


# ---------------------------------------------------------------------------- one layer


def correlated(rows: int, inputs: int) -> Tensor:
    """Inputs of a layer, with far fewer directions than columns."""
    few = torch.randn(rows, inputs // 3).double()
    return few @ torch.randn(inputs // 3, inputs).double() + 0.1 * torch.randn(rows, inputs)


def error(rows: Tensor, changed: Tensor, weights: Tensor) -> Tensor:
    """[O]"""
    return (rows @ (changed - weights).T).square().sum(0)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("effort", [1, 200, 2000])  # one step, some, one weight at a time
def test_the_remaining_weights_are_the_least_squares_solution(
    share: float, has_bias: bool, effort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "EFFORT", effort)
    monkeypatch.setattr(pruning, "RIDGE", 1e-9)
    rows, weights = correlated(200, 30), torch.randn(7, 30).double()
    rows[:, -1] = 1.0
    solved = pruning.sparse_weights(weights, rows.T @ rows, share, has_bias)
    kept = solved != 0
    inputs = 30 - has_bias
    assert ((~kept[:, :inputs]).sum(1) == round(share * inputs)).all()
    assert kept[:, -1].all() or not has_bias
    for answer, weight, stays in zip(solved, weights, kept, strict=True):
        best = torch.linalg.lstsq(rows[:, stays], rows @ weight[:, None]).solution[:, 0]
        torch.testing.assert_close(answer[stays], best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_solving_is_never_worse_than_zeros_alone(
    ridge: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "RIDGE", ridge)
    rows, weights = correlated(200, 30), torch.randn(7, 30).double()
    solved = pruning.sparse_weights(weights, rows.T @ rows, 0.5, has_bias=False)
    assert (error(rows, solved, weights) < error(rows, weights * (solved != 0), weights)).all()


def test_more_steps_choose_better() -> None:
    rows, weights = correlated(200, 30), torch.randn(50, 30).double()
    errors = []
    for effort in (1, 120, 2000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pruning, "EFFORT", effort)
            solved = pruning.sparse_weights(weights, rows.T @ rows, 0.5, has_bias=False)
        errors.append(float(error(rows, solved, weights).sum()))
    assert errors[0] > 1.2 * errors[1] > 1.2 * errors[2]


def test_half_the_weights_of_doubled_inputs_are_pruned_without_loss() -> None:
    once, weights = torch.randn(100, 12).double(), torch.randn(5, 24).double()
    rows = torch.cat([once, once], 1)[:, torch.randperm(24)]
    solved = pruning.sparse_weights(weights, rows.T @ rows, 0.5, has_bias=False)
    assert int((solved == 0).sum()) == 5 * 12
    said = (rows @ weights.T).square().sum(0)
    assert (
        error(rows, solved, weights) < 1e-4 * said
    ).all()  # the remaining error is due to the ridge
    assert (error(rows, weights * (solved != 0), weights) > 0.02 * said).all()


def test_a_convolution_is_a_product_with_the_windows_of_its_input() -> None:
    part, images = nn.Conv2d(3, 5, 4, stride=2, padding=1), torch.randn(6, 3, 8, 10)
    rows = pruning.unfolded(part, [images[:2], images[2:]])  # [M, I]
    product = rows @ part.weight.flatten(1).T + part.bias
    expected = part(images).flatten(2).movedim(1, 2).flatten(0, 1)
    torch.testing.assert_close(product, expected)


def test_weights_taken_out_as_a_matrix_are_put_back() -> None:
    for part in (nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.Conv2d(2, 3, (4, 5))):
        other = copy.deepcopy(part)
        nn.init.zeros_(other.weight)
        with torch.no_grad():
            pruning.put(other, pruning.matrix(part))
        torch.testing.assert_close(other.state_dict(), part.state_dict())


# ---------------------------------------------------------------------------- a whole agent


def test_a_share_of_zero_changes_nothing(agent: Agent, newest: list[Episode]) -> None:
    same = pruning.pruned(agent, 0.0, newest).model.state_dict()
    torch.testing.assert_close(same, agent.model.state_dict(), rtol=1e-4, atol=1e-4)


def test_the_given_share_of_all_exported_weights_is_zero(
    agent: Agent, newest: list[Episode]
) -> None:
    before = {name: tensor.clone() for name, tensor in agent.model.state_dict().items()}
    smaller = pruning.pruned(agent, 0.5, newest)
    exported = [
        parameter
        for name, parameter in smaller.model.named_parameters()
        if name.split(".")[0] in EXPORTED
    ]
    zeros = sum(int((parameter == 0).sum()) for parameter in exported)
    assert zeros / sum(parameter.numel() for parameter in exported) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(agent.model.state_dict(), before, rtol=0, atol=0)
    for name, parameter in agent.model.named_parameters():
        if name.split(".")[0] not in EXPORTED:
            assert torch.equal(parameter, smaller.model.get_parameter(name))


def test_what_is_exported_is_what_a_walk_calls(tiny: Config) -> None:
    spec = Spec((16, 16, 3), 3, has_choices=True, vectors={"joints": 4})
    episode = make_episode(20, seed=0)
    episode = dataclasses.replace(
        episode,
        action=np.eye(3, dtype=np.float32)[np.arange(20) % 3],
        vectors={"joints": np.ones((20, 4), np.float32)},
    )
    called = {}
    for proposals in (0, 2):
        config = read(
            tiny, {"model": {"policy": {"size": 30}}, "planning": {"proposals": proposals}}
        )
        agent = agent_of(config, build(config.model, spec).requires_grad_(False))
        layers = pruning.record_inputs(agent.model, pruning.walk_along(agent, [episode])).inputs
        called[proposals] = {name.split(".")[0] for name in layers}
        assert {name.split(".")[1] for name in layers if name.startswith("vectors")} == {"encoder"}
        assert "decoder" not in called[proposals]
    assert called[2] - called[0] == {"policy"}


def beliefs(model: WorldModel, episode: Episode) -> Tensor:
    """[T, F]"""
    embed = model.embed(torch.from_numpy(episode.image))[None]
    actions, valid = torch.from_numpy(episode.action)[None], torch.ones(1, len(episode)).bool()
    return model.observe(actions, embed, valid, None)[1].features[0]


def test_solving_gives_nearer_beliefs_than_zeros_alone(agent: Agent, newest: list[Episode]) -> None:
    solved = pruning.pruned(agent, 0.5, newest).model
    zeroed = copy.deepcopy(agent.model)
    for name, weight in zeroed.named_parameters():
        weight *= solved.get_parameter(name) != 0
    unseen = make_episode(40, seed=7)
    expected = beliefs(agent.model, unseen)
    errors = [float((beliefs(m, unseen) - expected).square().mean()) for m in (solved, zeroed)]
    assert errors[0] < 0.5 * errors[1]


# ---------------------------------------------------------------------------- rows to fit on


def test_the_newest_episodes_are_taken_until_there_are_rows_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "WALKED", 9)
    (tmp_path / "replay").mkdir()
    for number, rows in enumerate((3, 4, 5, 6)):
        write_episode(tmp_path / "replay" / f"{number:06d}.npz", make_episode(rows, number))
    assert [len(episode) for episode in pruning.newest_episodes(tmp_path)] == [6, 5]


def test_pruning_a_run_without_a_replay_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"replay holds no episode .* --prune 0"):
        pruning.newest_episodes(tmp_path)
