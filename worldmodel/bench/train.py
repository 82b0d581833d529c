"""Measure updates by part and precision, compared with a lower bound and plain PyTorch."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.assembly import learner_of
from worldmodel.bench.floor import NAMES, SIZE, operations, precisions, product_rates
from worldmodel.bench.measure import Cell, Effort, Table, interleave
from worldmodel.bench.plain_planet import Planet
from worldmodel.config import Config
from worldmodel.learner import Learner, clip_gradients, gradient_norm
from worldmodel.losses import mean_over_valid, terms_of
from worldmodel.machine import InlineExecutor, cores, second_thread
from worldmodel.models import build
from worldmodel.replay import Replay
from worldmodel.structs import Batch, Episode, Spec

ACTION_SIZE = 6
EPISODE_ROWS = 125
BATCH_DIVISOR = 10  # of PlaNet's batch: as many images as the default learns from at once
GROWN = (1, 2)  # times the default's batch and length


def bench_train(default: Config, published: Config, effort: Effort) -> Iterator[Table]:
    """Yield each comparison when it is done.

    ``published``: the settings of PlaNet. Its updates are measured with a tenth of its batch, as
    times per image hardly depend on it.
    """
    effort.say("matrix products: the operations a second of this machine")
    rates = product_rates(repetitions=5)
    batch = max(1, published.replay.batch // BATCH_DIVISOR)
    smaller = dataclasses.replace(published.replay, batch=batch)
    published = dataclasses.replace(published, replay=smaller)
    compared = _compared(default, published, effort, rates)
    floor = ", ".join(f"{NAMES[dtype]} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in rates.items())
    compared.notes.append(f"torch has {torch.get_num_threads()} threads; the floor: {floor}")
    yield compared
    yield _parts(default, effort)
    yield _side_by_side(default, effort)
    yield _growth(default, effort)


def _compared(
    default: Config, published: Config, effort: Effort, rates: dict[torch.dtype, float]
) -> Table:
    """Time whole updates in turn: PlaNet in plain PyTorch, PlaNet here, and the default."""
    effort.say("one gradient step of PlaNet and of the default:")
    planet = Planet(published.model, ACTION_SIZE)
    batch = make_batch(published)
    images = batch.image.permute(1, 0, 4, 2, 3).contiguous()
    actions, rewards = batch.action.transpose(0, 1), batch.reward.transpose(0, 1)
    works: dict[str, Callable[[], object]] = {
        "PlaNet, plain PyTorch, float32": lambda: planet.update(images, actions, rewards)
    }
    for what, config in (("PlaNet", published), ("the default", default)):
        for name in precisions().values():
            learner, rows = make_learner(config, name), make_batch(config)
            works[f"{what}, {name}"] = partial(learner.update, rows)
    times = interleave(works, effort)
    table: list[dict[str, Cell]] = []
    baseline = None  # ms an image of the first row
    for what, took in times.items():
        config = default if what.startswith("the default") else published
        count = config.replay.batch * config.replay.length
        ms = float(np.median(took))
        baseline = baseline or ms / count
        rate = rates[torch.bfloat16 if what.endswith("bfloat16") else torch.float32]
        floor_ms = operations(works[what]) / rate * 1e3
        table.append(
            {
                "update": what,
                "rounds": len(took),
                "images": count,
                "ms": ms,
                "images/s": count / ms * 1e3,
                "floor ms": floor_ms,
                "share of floor": floor_ms / ms,
                "times as fast per image": baseline / (ms / count),
            }
        )
    return Table("one gradient step", table)


def _parts(config: Config, effort: Effort) -> Table:
    """Time each part of the default's update. Parts run alone, so their times need not add up."""
    effort.say("the parts of the default's update:")
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        replay = make_replay(config, Path(folder))
        random = np.random.default_rng(0)
        columns = {name: _works(config, name) for name in precisions().values()}
        flat: dict[str, Callable[[], object]] = {"sample": lambda: replay.sample(random)}
        for name, works in columns.items():
            flat |= {f"{part} {name}": work for part, work in works.items()}
        times = {what: float(np.median(ms)) for what, ms in interleave(flat, effort).items()}
    rows.append({"part": "sample", **{f"{name} ms": times["sample"] for name in columns}})
    for part in next(iter(columns.values())):
        rows.append({"part": part, **{f"{name} ms": times[f"{part} {name}"] for name in columns}})
    title = f"the default's update by part, {config.replay.batch} x {config.replay.length}"
    return Table(title, rows, ["each part by itself; forward unless said"])


def _works(config: Config, precision: str) -> dict[str, Callable[[], object]]:
    learner, batch = make_learner(config, precision), make_batch(config)
    model, generator = learner.model, learner.generator
    count = config.replay.batch * config.replay.length
    image = config.objective.image
    decoded = 0 if image is None else max(1, round(image.decoded_share * count))
    embed = torch.randn(config.replay.batch, config.replay.length, model.encoder.embed_size)
    noise = torch.randn(config.replay.batch, config.replay.length, model.dynamics.noise_size)
    latents = model.dynamics.initial(decoded)

    def terms() -> torch.Tensor:
        seen = model.infer(batch, generator, learner.precision)
        with learner.precision():
            losses = terms_of(config.objective, model, seen, generator)
        return torch.stack([mean_over_valid(term, batch.valid) for term in losses.values()]).sum()

    def encode() -> object:
        with learner.precision():
            return model.encoder(model.pixels(batch.image))

    def decode() -> object:
        with learner.precision():
            return model.draw(latents)

    def sequence() -> object:
        return model.observe(batch.action, embed, batch.valid, noise)

    seen = model.infer(batch, generator, learner.precision)
    torch.autograd.backward(terms())
    gradients = [parameter for parameter in learner.world_parameters if parameter.grad is not None]

    def optimize() -> None:
        clip_gradients(gradients, config.learner.clip, gradient_norm(gradients))
        learner.optimizer.step()

    works: dict[str, Callable[[], object]] = {
        "encode": encode,
        "sequence": sequence,
    }
    if decoded:
        works["decode"] = decode
    works["losses (all of these)"] = terms
    works["losses and backward"] = lambda: torch.autograd.backward(terms())
    if learner.behaviour is not None:
        works["behaviour and backward"] = lambda: learner.learn_behaviour(seen)
    return works | {"optimizer": optimize, "whole": lambda: learner.update(batch)}


def _side_by_side(config: Config, effort: Effort) -> Table:
    """Time the two gradients of an update in turn and in parallel, and two matrix products.

    The products show what is possible on these cores: two in parallel take half the time on two
    cores, and the same time on two threads of one core.
    """
    effort.say("two things at once:")
    ways: dict[str, Executor] = {"in turn": InlineExecutor(), "side by side": second_thread()}
    works: dict[str, Callable[[], object]] = {}
    for way, executor in ways.items():
        learner = make_learner(config, config.learner.precision, executor)
        works[f"gradients {way}"] = partial(learner.update, make_batch(config))
        works[f"products {way}"] = partial(_two_products, executor, *torch.randn(2, SIZE, SIZE))
    took = {what: float(np.median(ms)) for what, ms in interleave(works, effort).items()}
    rows: list[dict[str, Cell]] = [
        {
            "two": two,
            "run": way,
            "ms": took[f"{two} {way}"],
            "times as fast": took[f"{two} in turn"] / took[f"{two} {way}"],
        }
        for two in ("gradients", "products")
        for way in ways
    ]
    return Table(
        f"two things at once on {cores()} cores: the default's gradients, and products", rows
    )


def _two_products(executor: Executor, a: Tensor, b: Tensor) -> None:
    other = executor.submit(torch.matmul, a, b)
    torch.matmul(a, b)
    other.result()


def _growth(config: Config, effort: Effort) -> Table:
    """Time updates of larger batches and longer windows: does time grow in proportion?"""
    effort.say("larger batches and longer windows:")
    scaled = {}
    for times in GROWN:
        for axis in ("batch", "length"):
            replay = dataclasses.replace(
                config.replay, **{axis: times * getattr(config.replay, axis)}
            )
            scaled[axis, times] = dataclasses.replace(config, replay=replay)
    works: dict[str, Callable[[], object]] = {}
    for (axis, times), larger in scaled.items():
        learner, batch = make_learner(larger, larger.learner.precision), make_batch(larger)
        works[f"{axis} {times}"] = partial(learner.update, batch)
    took = {what: float(np.median(ms)) for what, ms in interleave(works, effort).items()}
    rows: list[dict[str, Cell]] = []
    for axis, times in scaled:
        ms = took[f"{axis} {times}"]
        row: dict[str, Cell] = {"grown": f"{axis} x {times}", "ms": ms}
        row["ms / that of x 1"] = ms / took[f"{axis} 1"]
        rows.append(row)
    return Table("the default's update, grown", rows)


def make_learner(config: Config, precision: str, executor: Executor | None = None) -> Learner:
    """A learner; without an ``executor`` one thread of Python does everything.

    Then torch's threads are the only ones in use, and operations can be counted.
    """
    model = build(
        config.model, Spec((config.env.image_size, config.env.image_size, 3), ACTION_SIZE)
    )
    rates = dataclasses.replace(config.learner, precision=precision)  # type: ignore[arg-type]
    config = dataclasses.replace(config, learner=rates)
    return learner_of(config, model, executor or InlineExecutor())


def make_batch(config: Config) -> Batch:
    shape, size = (config.replay.batch, config.replay.length), config.env.image_size
    return Batch(
        image=torch.randint(0, 256, (*shape, size, size, 3), dtype=torch.uint8),
        action=2 * torch.rand(*shape, ACTION_SIZE) - 1,
        reward=torch.rand(shape),
        discount=torch.ones(shape),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def make_replay(config: Config, folder: Path) -> Replay:
    """A replay of four episodes of random images, actions and rewards."""
    replay = Replay(
        folder,
        batch=config.replay.batch,
        length=config.replay.length,
        memory_bytes=10**9,
    )
    random, size = np.random.default_rng(0), config.env.image_size
    rows = max(EPISODE_ROWS, config.replay.length)
    for _ in range(4):
        replay.add(
            Episode(
                image=random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8),
                action=random.uniform(-1, 1, (rows, ACTION_SIZE)).astype(np.float32),
                reward=random.random(rows).astype(np.float32),
                discount=np.ones(rows, np.float32),
                env_steps=np.ones(rows, np.int64),
            )
        )
    return replay
