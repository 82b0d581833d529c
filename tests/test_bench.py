"""The fast layers equal the model, and benchmarks compare equal numbers of operations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.conftest import Answer
from worldmodel import bench, cli
from worldmodel.assembly import agent_of
from worldmodel.bench.deadline import bench_deadline
from worldmodel.bench.floor import operations, precisions, product_rates
from worldmodel.bench.measure import Effort, Table, describe, interleave, percentiles
from worldmodel.bench.plain_planet import Planet
from worldmodel.bench.plan import bench_plan, bench_quality
from worldmodel.bench.replay import bench_replay
from worldmodel.bench.train import bench_train
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.models import WorldModel, build
from worldmodel.models.fast.onednn import has_onednn
from worldmodel.models.fast.packed import Product
from worldmodel.models.imagination import Imagination
from worldmodel.planners.gradient import Gradient
from worldmodel.structs import Latent, Spec, each, repeat

B, N, L, A = 2, 9, 5, 2
ONCE = Effort(1)
PLAIN = {
    "model": {
        "encoder": {"kind": "planet", "width": 2},
        "decoder": {"kind": "planet", "width": 2},
        "layers": "plain",
        "dynamics": {"deter_size": 7, "stoch_size": 3, "hidden_size": 11},
        "posterior": {"hidden_size": 11},
        "reward": {"kind": "normal", "layers": 2, "size": 6},
        "discount": None,
        "value": None,
        "policy": None,
    },
    "objective": {"discount": None},
    "behaviour": None,
    "replay": {"batch": 2, "length": 3},
    "planner": {
        "kind": "cem", "horizon": 3, "iterations": 2, "candidates": 12, "elites": 4,
    },
    "planning": {"proposals": 0, "sampled": True},
}  # fmt: skip


@pytest.fixture
def planet() -> Config:
    return read(Config(), PLAIN)


@pytest.fixture(params=["tiny", "planet"])
def model(request: pytest.FixtureRequest) -> WorldModel:
    """A model with one kind of layers; random last layers, so that no head is zero."""
    config: Config = request.getfixturevalue(request.param)
    model = build(config.model, Spec((config.env.image_size, config.env.image_size, 3), A))
    for name, parameter in model.named_parameters():
        if "last" in name or "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def question(model: WorldModel) -> tuple[Latent, torch.Tensor, torch.Tensor]:
    belief = each(model.dynamics.initial(B), lambda part: part + torch.randn(part.shape))
    return belief, torch.randn(B, N, L, A), torch.randn(B, N, L, model.dynamics.noise_size)


@pytest.mark.parametrize("sampled", [True, False])
@torch.no_grad()
def test_packed_is_the_model_in_float32(model: WorldModel, sampled: bool) -> None:
    belief, actions, noise = question(model)
    plain = model.imagine(repeat(belief, N), actions, noise if sampled else None).features
    fast = Imagination(model, torch.float32)
    features = fast.imagine(belief, actions, noise if sampled else None).features
    torch.testing.assert_close(features, plain, rtol=0, atol=5e-4)
    for name in ("reward", "discount", "slow_value"):
        expected = getattr(model, name)(plain)
        torch.testing.assert_close(getattr(fast, name)(features), expected, rtol=2e-3, atol=2e-3)
    if model.policy is not None:
        assert fast.policy is not None
        torch.testing.assert_close(
            fast.policy.act(features, None), model.policy.act(plain, None), rtol=0, atol=2e-3
        )


@torch.no_grad()
def test_packed_follows_the_policy_as_the_model_does(tiny: Config) -> None:
    model = build(tiny.model, Spec((tiny.env.image_size, tiny.env.image_size, 3), A))
    assert model.policy is not None
    torch.nn.init.normal_(model.policy.last.weight, std=0.5)
    belief, noise = question(model)[0], torch.randn(B, N, L, A)
    followed = Imagination(model, torch.float32).follow(belief, noise)
    latent = repeat(belief, N)
    for step in range(L):
        action = model.policy.act(latent.features, noise[..., step, :])
        torch.testing.assert_close(followed[..., step, :], action, rtol=0, atol=2e-3)
        latent = model.dynamics.imagine(model.dynamics.remember(latent, action), None)


@torch.no_grad()
def test_packed_in_bfloat16_is_the_model_up_to_rounding(model: WorldModel) -> None:
    belief, actions, noise = question(model)
    plain = model.imagine(repeat(belief, N), actions, noise).features
    features = Imagination(model, torch.bfloat16).imagine(belief, actions, noise).features
    assert features.dtype == torch.bfloat16
    error = (features.float() - plain).square().mean().sqrt()
    assert error < 0.05 * plain.std()


@torch.no_grad()
def test_packing_leaves_the_model_alone(model: WorldModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules = dict(model.named_modules())
    Imagination(model, torch.bfloat16)
    assert dict(model.named_modules()) == modules
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@torch.no_grad()
def test_a_changed_weight_is_packed_anew_and_nothing_else_is(model: WorldModel) -> None:
    imagination = Imagination(model, torch.float32)
    first = imagination.dynamics
    assert imagination.refresh().dynamics is first
    next(model.dynamics.parameters()).add_(1.0)
    second = imagination.refresh().dynamics
    assert second is not first
    model.reward = Answer(lambda features: features[..., 0])  # type: ignore[assignment]
    assert imagination.refresh().dynamics is not second


def test_a_trained_step_is_packed_anew(model: WorldModel) -> None:
    imagination = Imagination(model, torch.float32)
    before = imagination.dynamics
    optimizer = torch.optim.Adam(model.dynamics.parameters(), fused=True)
    for parameter in model.dynamics.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert imagination.refresh().dynamics is not before


@pytest.mark.parametrize("after", ["none", "relu", "sigmoid", "tanh"])
@torch.no_grad()
def test_a_product_works_without_onednn(after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear, x = torch.nn.Linear(5, 3), torch.randn(4, 5)
    fast = Product(linear, after, torch.float32)
    monkeypatch.setattr("worldmodel.models.fast.packed.has_onednn", lambda dtype: False)
    plain = Product(linear, after, torch.float32)
    assert not plain.is_packed
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-4)


def test_the_gradient_planner_still_has_gradients(tiny: Config) -> None:
    planner = Gradient(horizon=4, iterations=2, candidates=8, elites=3)
    model = build(tiny.model, Spec((tiny.env.image_size, tiny.env.image_size, 3), A))
    agent = agent_of(dataclasses.replace(tiny, planner=planner), model)
    assert agent.plan(agent.initial()).iterations == planner.iterations


def test_a_plan_in_bfloat16_is_near_that_in_float32(tiny: Config) -> None:
    model = build(tiny.model, Spec((tiny.env.image_size, tiny.env.image_size, 3), A))
    torch.nn.init.normal_(model.reward.last.weight)  # type: ignore[union-attr, arg-type]
    plans = []
    for precision in ("float32", "bfloat16"):
        planner = dataclasses.replace(tiny.planner, candidates=64, elites=32)
        planning = dataclasses.replace(tiny.planning, precision=precision)
        agent = agent_of(dataclasses.replace(tiny, planner=planner, planning=planning), model)
        plans.append(agent.plan(agent.initial()).actions)
    assert (plans[0] - plans[1]).abs().max() < 0.2


def test_operations_are_counted_forwards_backwards_and_packed() -> None:
    linear = torch.nn.Linear(5, 3, bias=False)
    x = torch.randn(4, 5, requires_grad=True)
    forward = 2 * 4 * 5 * 3
    assert operations(lambda: linear(x)) == forward
    assert operations(lambda: linear(x).sum().backward()) == 3 * forward
    if has_onednn(torch.float32):
        with torch.no_grad():
            product = Product(linear, "relu", torch.float32)
            assert operations(lambda: product(x.detach())) == forward


def test_the_plain_planet_has_the_same_number_of_operations(planet: Config) -> None:
    """Otherwise the stated ratio of times would be too large."""
    sizes, search = planet.model, planet.planner
    straightforward = Planet(sizes, A)
    agent = agent_of(planet, build(sizes, Spec((64, 64, 3), A)))
    ours = operations(lambda: agent.plan(agent.initial()))
    assert ours == operations(lambda: straightforward.plan(search))


def test_rates_are_of_each_precision() -> None:
    rates = product_rates(repetitions=1, size=32)
    assert set(rates) == set(precisions()) >= {torch.float32}
    assert all(rate > 0 for rate in rates.values())


def test_functions_are_timed_in_turn_without_the_first_round() -> None:
    called: list[str] = []
    times = interleave(
        {"a": lambda: called.append("a"), "b": lambda: called.append("b")}, Effort(2)
    )
    assert called == ["a", "b"] * 3
    assert [len(each) for each in times.values()] == [2, 2]


def test_a_comparison_ends_early_if_its_rounds_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three rounds are measured in any case, and all of them where time is left."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    said: list[str] = []

    def work() -> None:
        now[0] += 2.0

    def rounds(seconds: float) -> int:
        said.clear()
        times = interleave({"a": work, "b": work}, Effort(20, seconds, said.append))
        assert times["a"].tolist() == [2000.0] * len(times["b"])
        return len(times["a"])

    assert [rounds(seconds) for seconds in (1, 12, 23, 24, 80, 1000)] == [3, 3, 5, 6, 20, 20]
    rounds(24)
    assert said == [
        "  a: 2e+03 ms the first time",
        "  b: 2e+03 ms the first time",
        "  6 rounds of these, about 24 s",
    ]


def test_each_precision_of_this_processor_is_measured_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for feature, expected in (("amx_bf16", 2), ("avx2", 1)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=feature: {name: True})
        assert len(precisions()) == expected


def test_percentiles_are_in_order() -> None:
    numbers = percentiles(np.arange(1001.0))
    assert numbers == pytest.approx({"ms": 500.0, "p99 ms": 990.0, "p99.9 ms": 999.0})


def test_a_table_shows_every_row_and_note() -> None:
    text = describe(Table("title", [{"a": "x", "b": 1234.5}, {"a": "long name"}], ["a note"]))
    assert text.splitlines()[0] == "title"
    assert "1,234" in text
    assert "long name" in text
    assert "a note" in text


def test_the_bench_of_planning_runs_small(tiny: Config, planet: Config) -> None:
    published, planners, closeness = bench_plan(tiny, planet, ONCE)
    names = [row["planner"] for row in published.rows]
    ours = [f"worldmodel, {name}" for name in precisions().values()]
    assert names == ["plain PyTorch, float32", *ours]
    assert published.rows[0]["times as fast"] == 1.0
    assert {str(row["planner"]).split(",")[0] for row in planners.rows} == {
        "mppi", "icem", "cem", "shooting", "gradient"
    }  # fmt: skip
    assert closeness.rows[0]["same elites"] == 1.0
    steps = {
        str(row["planner"]): float(row["latent steps/s"]) * float(row["ms"]) / 1e3
        for row in planners.rows
    }
    assert steps["mppi, float32"] == pytest.approx((2 + 8 + 6) * 4)  # proposals are scored once
    assert steps["shooting, float32"] == pytest.approx((2 + 8 + 8) * 4)


WAYS = ("in turn", "side by side")


def test_the_bench_of_training_runs_small(tiny: Config, planet: Config) -> None:
    compared, parts, together, growth = bench_train(tiny, planet, ONCE)
    assert compared.rows[0]["times as fast per image"] == 1.0
    assert all(0 < float(row["floor ms"]) < float(row["ms"]) for row in compared.rows)
    assert [row["part"] for row in parts.rows][:4] == ["sample", "encode", "sequence", "decode"]
    ways = {(row["two"], row["run"]): row["times as fast"] for row in together.rows}
    assert set(ways) == {(a, b) for a in ("gradients", "products") for b in WAYS}
    assert ways["gradients", "in turn"] == ways["products", "in turn"] == 1.0
    assert [row["ms / that of x 1"] for row in growth.rows][:2] == [1.0, 1.0]


def test_the_bench_of_the_replay_runs_small(tiny: Config) -> None:
    (table,) = bench_replay(tiny, ONCE, sizes=((2, 3),))
    assert table.rows[0]["batch"] == "2 x 3"
    assert table.rows[0]["MB"] == 2 * 3 * 16 * 16 * 3 / 1e6


@pytest.mark.mujoco
def test_every_deadline_is_measured_from_outside(tiny: Config) -> None:
    (table,) = bench_deadline(tiny, Effort(3), deadlines_ms=(1e-6, 1e6))
    none, all_of_them = table.rows
    assert none["iterations"] == 0
    assert none["late by over 1 ms"] in (0, 1, 2, 3)
    assert all_of_them["iterations"] == tiny.planner.iterations
    assert 0 < float(all_of_them["ms"]) <= float(all_of_them["worst ms"])


@pytest.mark.usefixtures("undrawn")
def test_quality_is_measured_in_the_true_simulator(tiny: Config) -> None:
    from worldmodel.envs import make_env

    env = make_env("cartpole_balance", tiny.env)
    agent = agent_of(
        tiny,
        build(tiny.model, Spec((tiny.env.image_size, tiny.env.image_size, 3), len(env.action_low))),
    )
    table = bench_quality(agent, env)
    env.close()
    assert table.rows[-1]["planner"] == "no action"
    assert all(float(row["in the simulator"]) > 0 for row in table.rows)


@pytest.mark.mujoco
@pytest.mark.usefixtures("undrawn")
def test_quality_is_measured_of_an_agent_with_vectors(tiny: Config) -> None:
    from worldmodel.envs import make_env

    env = make_env("cartpole_balance", dataclasses.replace(tiny.env, vectors=True))
    sizes = {name: len(vector) for name, vector in env.reset(0).vectors.items()}
    model = build(
        tiny.model,
        Spec((tiny.env.image_size, tiny.env.image_size, 3), len(env.action_low), vectors=sizes),
    )
    table = bench_quality(agent_of(tiny, model), env)
    env.close()
    assert sizes
    assert all(np.isfinite(float(row["under the model"])) for row in table.rows)


@pytest.mark.mujoco
def test_the_command_answers(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["bench", "render", "--repetitions", "1", "--tasks", "cartpole_swingup", "--json"]
    assert cli.main(typed) == 0
    output = capsys.readouterr()
    first, second = output.err.splitlines()
    assert first == "1 repetitions of each measurement of: render"
    assert "images of cartpole_swingup" in second
    (line,) = output.out.splitlines()
    assert json.loads(line)["render"][0]["rows"][-1]["frames/s"] > 0


@pytest.mark.parametrize("as_json", [True, False])
def test_an_interrupt_keeps_what_has_been_measured(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[Table]:
        yield Table("the first", [{"ms": 1.0}])
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "bench_plan", interrupted)
    assert cli.main(["bench", "plan", *(["--json"] if as_json else [])]) == 130
    output = capsys.readouterr()
    announced = "up to 50 s on an idle machine, to measure: plan"
    assert output.err.splitlines()[:2] == [announced, INTERRUPTED]
    if as_json:
        assert [table["title"] for table in json.loads(output.out)["plan"]] == ["the first"]
    else:
        assert output.out.startswith("the first")


INTERRUPTED = "interrupted; this is what has been measured"


@pytest.mark.parametrize(
    "typed", [["fly"], ["plan", "--repetitions", "0"], ["plan", "--run", "nowhere"]]
)
def test_a_mistake_is_answered_before_anything_is_measured(typed: list[str]) -> None:
    assert cli.main(["bench", *typed]) == 2
