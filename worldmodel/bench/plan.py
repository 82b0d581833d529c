"""Measure the time and the quality of a plan, for each planner and for PlaNet's own search."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.bench.counting_planner import counting
from worldmodel.bench.floor import NAMES, operations, precisions, product_rates
from worldmodel.bench.measure import Cell, Effort, Table, interleave, percentiles
from worldmodel.bench.plain_planet import Planet
from worldmodel.config import Config
from worldmodel.envs import Environment
from worldmodel.envs.simulator import Simulator
from worldmodel.models import WorldModel, build
from worldmodel.models.imagination import Imagination
from worldmodel.planners import PlannerSettings, of_kind, with_candidates
from worldmodel.structs import Latent, Spec, at

ACTION_SIZE = 6  # as cheetah_run and walker_walk have
KINDS = ("mppi", "icem", "cem", "shooting", "gradient")
STATES, ROWS_BETWEEN = 5, 10  # states at which plans are compared in the true simulator


def bench_plan(default: Config, published: Config, effort: Effort) -> Iterator[Table]:
    """Time plans of untrained models, which multiply as much as trained ones.

    Yield each comparison when it is done. ``published``: the settings of PlaNet.
    """
    effort.say("matrix products: the operations a second of this machine")
    rates = product_rates(repetitions=5)
    table = _published(published, effort, rates)
    threads = f"torch has {torch.get_num_threads()} threads; the floor: " + ", ".join(
        f"{NAMES[dtype]} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in rates.items()
    )
    table.notes.append(threads)
    yield table
    yield _planners(default, effort, rates)
    effort.say("elites of each precision, for the same candidates")
    yield _closeness(published)


def _published(config: Config, effort: Effort, rates: dict[torch.dtype, float]) -> Table:
    """Time PlaNet's search: plain PyTorch and each precision of this package, in turn."""
    effort.say("PlaNet's search, in plain PyTorch and here:")
    model, search = _model(config), with_candidates(config.planner)
    planet = Planet(config.model, ACTION_SIZE)
    agents = {
        dtype: agent_of(_precise(config, name), model) for dtype, name in precisions().items()
    }
    belief = model.dynamics.initial()
    works: dict[str, Callable[[], object]] = {"plain": lambda: planet.plan(search)}
    for dtype, agent in agents.items():
        works[NAMES[dtype]] = partial(agent.plan, belief)
    times = interleave(works, effort)
    flops = operations(lambda: planet.plan(search))
    baseline = float(np.median(times["plain"]))
    rows = []
    for name, each in times.items():
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        what = "plain PyTorch, float32" if name == "plain" else f"worldmodel, {name}"
        steps = search.candidates * search.iterations * search.horizon
        rows.append(_row(what, steps, each, flops, rates[dtype]) | {
            "times as fast": baseline / float(np.median(each))
        })  # fmt: skip
    return Table(f"PlaNet's search: {_budget(search)}, {flops / 1e9:.1f} GFLOP", rows)


def _planners(config: Config, effort: Effort, rates: dict[torch.dtype, float]) -> Table:
    effort.say("each planner with the default model:")
    model = _model(config)
    agents = {
        (kind, dtype): agent_of(_precise(_search(config, kind), name), model)
        for kind in KINDS
        for dtype, name in precisions().items()
        if kind != "gradient" or dtype == torch.float32  # its gradients need float32
    }
    belief = model.dynamics.initial()
    times = interleave(
        {f"{kind}, {NAMES[dtype]}": partial(a.plan, belief) for (kind, dtype), a in agents.items()},
        effort,
    )
    rows = []
    for (kind, dtype), agent in agents.items():
        flops = operations(partial(agent.plan, belief))
        name = f"{kind}, {NAMES[dtype]}"
        each = times[name]
        rows.append(_row(name, _latent_steps(agent), each, flops, rates[dtype]))
    return Table(f"the default model: {_budget(config.planner)}", rows)


def _closeness(config: Config) -> Table:
    """Compare the elites of each precision for the same candidates and noise."""
    model, search = _model(config), with_candidates(config.planner)
    begin = model.dynamics.initial(1, search.candidates)
    shape = (1, search.candidates, search.horizon)
    actions = torch.randn(*shape, ACTION_SIZE).clamp(-1, 1)
    noises = torch.randn(2, *shape, model.dynamics.noise_size)
    with torch.no_grad():
        features = [model.imagine(begin, actions, noise).features for noise in noises]
        returns = [model.reward(each).sum(-1)[0] for each in features]
        rows: list[dict[str, Cell]] = []
        for dtype, name in precisions().items():
            fast = Imagination(model, dtype)
            imagined = fast.imagine(model.dynamics.initial(1), actions, noises[0]).features
            approximate = fast.reward(imagined).sum(-1)[0]
            rows.append(
                {
                    "precision": name,
                    "same elites": _shared(approximate, returns[0], search.elites),
                    "largest error of a latent": float((imagined - features[0]).abs().max()),
                    "error of returns / their spread": float(
                        (approximate - returns[0]).std() / returns[0].std()
                    ),
                }
            )
    rows.append(
        {
            "precision": "float32, other noise",
            "same elites": _shared(returns[1], returns[0], search.elites),
            "largest error of a latent": float((features[1] - features[0]).abs().max()),
            "error of returns / their spread": float(
                (returns[1] - returns[0]).std() / returns[0].std()
            ),
        }
    )
    title = "compared with the model's own float32, for the same candidates of PlaNet's search"
    return Table(title, rows, ["an untrained model; the noise is that of the latents"])


def bench_quality(agent: Agent, env: Environment) -> Table:
    """Compare each planner's plans by their return under a run's model and in the simulator."""
    action_size = len(env.action_low)
    random = np.random.default_rng(0)
    agents = {
        kind: agent.changed(planner=of_kind(kind, agent.planner)) for kind in KINDS
    }  # the same budget
    model_returns: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "no action")}
    true_returns: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "no action")}
    row = env.reset(seed=0)
    belief = agent.observe(agent.initial(), agent.no_action(), row.observation)
    horizon = agent.horizon
    for _ in range(STATES):
        for _ in range(ROWS_BETWEEN):
            action = random.uniform(-1, 1, action_size).astype(np.float32)
            row = env.step(action)
            belief = agent.observe(belief, action, row.observation)
        simulator = Simulator(env, discount=agent.discount_rate)
        plans = {kind: each.plan(belief).actions for kind, each in agents.items()}
        plans["no action"] = torch.zeros(horizon, action_size)
        for kind, actions in plans.items():
            model_returns[kind].append(imagined_return(agent, belief, actions))
            true_returns[kind].append(float(simulator(actions[None, None])))
    rows: list[dict[str, Cell]] = [
        {
            "planner": kind,
            "under the model": float(np.mean(model_returns[kind])),
            "in the simulator": float(np.mean(true_returns[kind])),
        }
        for kind in model_returns
    ]
    note = (
        f"mean over {STATES} states, {horizon} rows ahead; under the model with the value of the"
        " last row, in the simulator without"
    )
    return Table(f"returns of plans, {_budget(agent.planner)}", rows, [note])


@torch.no_grad()
def imagined_return(agent: Agent, belief: Latent, actions: torch.Tensor) -> float:
    """The return of actions [L, A] under the model, the value of the last row included."""
    begin = at(belief, (None, None))
    features = agent.model.imagine(begin, actions[None, None], None).features
    return float(agent.reward(features, actions[None, None]).sum())


def _model(config: Config) -> WorldModel:
    return build(config.model, Spec((config.env.image_size, config.env.image_size, 3), ACTION_SIZE))


def _search(config: Config, kind: str) -> Config:
    return dataclasses.replace(config, planner=of_kind(kind, config.planner))


def _precise(config: Config, precision: str) -> Config:
    planning = dataclasses.replace(config.planning, precision=precision)  # type: ignore[arg-type]
    return dataclasses.replace(config, planning=planning)


def _budget(search: PlannerSettings | None) -> str:
    search = with_candidates(search)
    return f"{search.candidates} candidates x {search.iterations} iterations x {search.horizon}"


def _latent_steps(agent: Agent) -> int:
    """The number of latents imagined for one plan, by its candidates and its proposals."""
    counted, planner = counting(agent)
    counted.plan(counted.initial())
    return planner.steps


def _row(name: str, steps: int, each: np.ndarray, flops: int, rate: float) -> dict[str, Cell]:
    floor_ms = flops / rate * 1e3
    median = float(np.median(each))
    return {
        "planner": name,
        "rounds": len(each),
        **percentiles(each),
        "latent steps/s": steps / median * 1e3,
        "floor ms": floor_ms,
        "share of floor": floor_ms / median,
    }


def _shared(some: torch.Tensor, others: torch.Tensor, elites: int) -> float:
    """The share of elites that the two returns [N] have in common."""
    best = [set(returns.topk(elites).indices.tolist()) for returns in (some, others)]
    return len(best[0] & best[1]) / elites
