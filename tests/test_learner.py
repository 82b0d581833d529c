from __future__ import annotations

import dataclasses
from concurrent.futures import Executor

import pytest
import torch

from tests.test_losses import make_batch
from worldmodel.assembly import learner_of
from worldmodel.checkpoint import pack_optimizer
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.learner import (
    MOST_SKIPS,
    Learner,
    clip_gradients,
    gradient_norm,
)
from worldmodel.machine import InlineExecutor, precision_of, second_thread
from worldmodel.models import WorldModel, build
from worldmodel.presets import load_preset
from worldmodel.structs import Batch, Spec


def test_every_parameter_learns(model: WorldModel, tiny: Config) -> None:
    learner = learner_of(tiny, model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for _ in range(3):  # heads that start at zero pass nothing on at first
        learner.update(make_batch(3, 5))
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert still == []


def test_an_update_is_the_same_for_the_same_seed_and_batch(tiny: Config) -> None:
    batch = make_batch(3, 5)

    def learned(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = build(tiny.model, Spec((16, 16, 3), 2))
        learner_of(dataclasses.replace(tiny, seed=seed), model).update(batch)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(learned(1), learned(1))
    assert not torch.equal(learned(1), learned(2))


@pytest.mark.parametrize("decay_after", [2, None])
def test_rates_fall_with_the_root_of_the_updates(
    model: WorldModel, tiny: Config, decay_after: int | None
) -> None:
    config = read(tiny, {"learner": {"decay_after": decay_after}})
    learner, seen = learner_of(config, model), []

    def update(learner: Learner) -> None:
        learner.update(make_batch(3, 5))
        seen.append([group["lr"] for group in learner.optimizer.param_groups])

    for _ in range(4):
        update(learner)
    taken_on = learner_of(config, model)
    taken_on.restore(learner.state())
    update(taken_on)

    behaviour = config.behaviour
    assert behaviour is not None
    rates = config.learner.model_rate, behaviour.value_rate, behaviour.policy_rate
    left = [1, 1, (2 / 3) ** 0.5, 0.5**0.5, (2 / 5) ** 0.5] if decay_after else [1] * 5
    assert seen == [pytest.approx([rate * share for rate in rates]) for share in left]


def test_the_average_is_a_mean_of_the_first_steps_then_moves(
    model: WorldModel, tiny: Config
) -> None:
    learner = learner_of(read(tiny, {"learner": {"average_rate": 0.5}}), model)
    seen = []
    for _ in range(3):
        learner.update(make_batch(3, 5))
        seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    averaged = torch.cat([p.flatten() for p in learner.averaged.parameters()])
    torch.testing.assert_close(averaged, ((seen[0] + seen[1]) / 2 + seen[2]) / 2)
    assert all(not p.requires_grad for p in learner.averaged.parameters())
    torch.testing.assert_close(learner.averaged.pixels.mean, model.pixels.mean)


def test_with_average_rate_1_the_averaged_weights_are_the_learned(
    model: WorldModel, tiny: Config
) -> None:
    learner = learner_of(read(tiny, {"learner": {"average_rate": 1.0}}), model)
    model.pixels.fit(torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8))
    for _ in range(2):
        learner.update(make_batch(3, 5))
    for name, value in learner.averaged.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_padded_rows_teach_nothing(model: WorldModel, tiny: Config) -> None:
    batch = make_batch(3, 5)
    valid = batch.valid.clone()
    valid[:, 3:] = False

    def learned(image: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        model = build(tiny.model, Spec((16, 16, 3), 2))
        changed = dataclasses.replace(batch, image=image, reward=reward, valid=valid)
        learner_of(tiny, model).update(changed)
        return torch.cat([p.flatten() for p in model.parameters()])

    image, reward = batch.image.clone(), batch.reward.clone()
    image[:, 3:] = 0
    reward[:, 3:] = 77.0
    assert torch.equal(learned(batch.image, batch.reward), learned(image, reward))


def test_imagination_leaves_the_world_model_alone(model: WorldModel, tiny: Config) -> None:
    learner = learner_of(tiny, model)
    batch = make_batch(3, 5)
    learner.learn_behaviour(model.infer(batch, learner.generator))
    assert all(p.grad is None for p in learner.world_parameters)
    assert all(p.requires_grad for p in learner.world_parameters)
    assert model.policy is not None
    assert all(p.grad is not None for p in model.policy.parameters())
    assert all(p.grad is not None for p in model.value.parameters())


@pytest.mark.parametrize("executor", [InlineExecutor(), second_thread()])
def test_an_error_in_imagination_leaves_no_gradient_running(
    model: WorldModel, tiny: Config, monkeypatch: pytest.MonkeyPatch, executor: Executor
) -> None:
    learner = learner_of(tiny, model, executor)
    assert model.policy is not None
    monkeypatch.setattr(model.policy, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learner.update(make_batch(3, 5))
    assert all(p.grad is not None for p in learner.world_parameters)


def test_gradients_computed_in_two_threads_are_those_of_one(tiny: Config) -> None:
    def learned(executor: Executor) -> torch.Tensor:
        torch.manual_seed(0)
        model = build(tiny.model, Spec((16, 16, 3), 2))
        learner = learner_of(tiny, model, executor)
        for _ in range(4):
            learner.update(make_batch(3, 5))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(learned(InlineExecutor()), learned(second_thread()))


def test_planet_takes_a_step_at_its_published_sizes() -> None:
    config = read(load_preset("planet"), {"objective": {"kl": {"free_nats": 0.0}}})
    model = build(config.model, Spec((64, 64, 3), 1))
    learner = learner_of(config, model)
    batch = make_batch(2, 3, size=64)
    before = [p.clone() for p in model.parameters()]
    losses = learner.update(dataclasses.replace(batch, action=batch.action[..., :1])).metrics
    assert set(losses) == {"kl_dynamics", "kl_representation", "reward", "image"}
    assert all(torch.isfinite(torch.tensor(value)) for value in losses.values())
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_precision_is_asked_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def dtype(wanted: str) -> torch.dtype:
        with precision_of(wanted, torch.device("cpu"))():
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    for features, expected in (
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=features: f)
        assert dtype("auto") == expected
    assert dtype("bfloat16") == torch.bfloat16
    assert dtype("float32") == torch.float32


def train_reward(batches: list[Batch], config: Config) -> float:
    """The reward's mean squared error, named from the imagined latent, after learning."""
    torch.manual_seed(0)
    model = build(config.model, Spec((16, 16, 3), 2))
    learner = learner_of(config, model)
    for batch in batches[:-1]:
        learner.update(batch)
    test = batches[-1]
    latent = model.dynamics.initial(len(test.action))
    with torch.no_grad():
        features = model.imagine(latent, test.action[:, 1:], None).features
        return float((model.reward(features) - test.reward[:, 1:]).square().mean())


def test_the_model_learns_an_actions_reward_and_not_that_of_a_shifted_row(tiny: Config) -> None:
    """The reward is the action that led to it: one row late, and it cannot be foreseen."""
    config = read(
        tiny,
        {
            "model": {"dynamics": {"deter_size": 24, "hidden_size": 24}, "policy": {"kind": "none"},
                      "value": {"kind": "none"}, "reward": {"size": 24}},
            "behaviour": None,
            "learner": {"model_rate": 3e-3},
            "objective": {"reward": {"weight": 10.0}, "image": {"decoded_share": 0.1}},
        },
    )  # fmt: skip
    right, shifted = [], []
    for _ in range(220):
        batch = make_batch(8, 6)
        image = torch.zeros_like(batch.image)
        right.append(dataclasses.replace(batch, image=image, reward=batch.action[..., 0]))
        late = batch.action[..., 0].roll(-1, dims=1)  # what the *next* action will pay
        shifted.append(dataclasses.replace(batch, image=image, reward=late))
    variance = 1 / 3
    assert train_reward(right, config) < 0.3 * variance
    assert train_reward(shifted, config) > 0.7 * variance


@pytest.mark.parametrize("most", [0.1, 1.0, 100.0])
def test_gradients_are_clipped_as_pytorch_clips_them(most: float) -> None:
    ours, theirs = ([torch.nn.Parameter(torch.ones(3)) for _ in range(3)] for _ in range(2))
    for one, other in zip(ours[:2], theirs, strict=False):  # the last has learned nothing
        one.grad = torch.randn(3)
        other.grad = one.grad.clone()
    clip_gradients(ours, most, gradient_norm(ours))
    torch.nn.utils.clip_grad_norm_(theirs, most)
    for one, other in zip(ours[:2], theirs, strict=False):
        torch.testing.assert_close(one.grad, other.grad)
    assert ours[2].grad is None


def spoil_gradient(parameter: torch.nn.Parameter, number: float, updates: int = 1) -> None:
    """One number of its gradient becomes NaN or infinite, in so many updates from now on."""
    left = iter(range(updates))

    def spoiled(gradient: torch.Tensor) -> torch.Tensor:
        if next(left, None) is None:
            return gradient
        gradient = gradient.clone()
        gradient[(0,) * gradient.dim()] = number
        return gradient

    parameter.register_hook(spoiled)


@pytest.mark.parametrize("part", ["encoder", "policy"])
@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_one_infinite_gradient_leaves_weights_optimizer_and_average_as_they_were(
    model: WorldModel, tiny: Config, part: str, number: float
) -> None:
    learner = learner_of(tiny, model)
    assert not learner.update(make_batch(3, 5)).skipped

    def held() -> dict[str, torch.Tensor]:
        parts = {
            "model": model.state_dict(),
            "averaged": learner.averaged.state_dict(),
            "optimizer": pack_optimizer(learner.optimizer),
            "learner": {"updates": learner.updates},
        }
        return {
            f"{group}: {name}": tensor.clone()
            for group, named in parts.items()
            for name, tensor in named.items()
        }

    before = held()
    spoil_gradient(next(getattr(model, part).parameters()), number)
    assert learner.update(make_batch(3, 5)).skipped
    after = held()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []

    assert not learner.update(make_batch(3, 5)).skipped  # and the next one learns
    assert not torch.equal(before["learner: updates"], learner.updates)


def test_many_infinite_gradients_in_a_row_end_the_run(model: WorldModel, tiny: Config) -> None:
    learner = learner_of(tiny, model)
    spoil_gradient(next(model.encoder.parameters()), float("inf"), updates=MOST_SKIPS)
    for _ in range(MOST_SKIPS - 1):
        learner.update(make_batch(3, 5))
    with pytest.raises(RuntimeError, match=f"NaN or infinite in {MOST_SKIPS} updates in a row"):
        learner.update(make_batch(3, 5))
