"""The learning check: agents must learn a pixel task to a score that broken or random ones miss.

    python -m tests.gate                        one seed, nothing broken: must pass
    python -m tests.gate --defect actions_late  the same, with a defect: must fail
    python -m tests.gate --turn                 what every check of a change runs: one seed and one
                                                defect, which change with the number of commits
    python -m tests.gate --all --csv FILE       five seeds and five defects, as a table

The task is a small one that needs a model: hold a point at the top of a hill, where no single image
shows its velocity. Training calls ``worldmodel.train``, in one process and for a fixed number of
steps, so that a seed gives the same score again on the same machine.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

import worldmodel
from worldmodel.checks import read
from worldmodel.compare_settings import settings_hash
from worldmodel.config import Config
from worldmodel.envs import adopt
from worldmodel.machine import cores
from worldmodel.models import WorldModel
from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.planners.mppi import MPPI
from worldmodel.replay import Replay
from worldmodel.rollout import EVALUATION_SEED, play_constant, play_random
from worldmodel.structs import Batch, Search, Step

SETTINGS = {
    "task": "toy",  # ignored, because the environment is given
    "env": {"image_size": 32},
    "replay": {"batch": 12, "length": 16},
    # Noise is independent from row to row: with autocorrelated noise the action before says nearly
    # as much as the action itself, and actions_late would be learned.
    "loop": {"seed_episodes": 10, "updates": 150, "evaluate_every": 10_000},
    "exploration": {"memory": 0.0},
}
# Simulator steps: 3,600 until the defaults became smaller networks, fewer imagined states and two
# windows drawn for each. Then, at 3,600, seeds 0 and 3 scored 40 and 37, seeds 1 and 2 scored
# 56; at 4,440 seeds 0 and 3 score 56 too.
STEPS = 4_440
# How the task was chosen. The force of an action: from five seeds and the defects, on level ground.
# The slope: first twice as steep, tried with seed 0, with and without actions_late; then halved,
# because seed 1 had not learned, and accepted after seed 1, and actions_late with seeds 0 and 5.
# The least score: midway between the worst of seven seeds without a defect of the former defaults,
# 51, and the best of four with actions_late, 34 (assets/trials/learning_check_defaults-2.csv).
PASS = 43.0  # mean return of ten episodes of 60 rows; a row earns at most 1
SEEDS = range(5)


class Glide:
    """A point on a hill, accelerated by the action, between two walls that it bounces off.

    Over 20 starts, uniform random actions score 8, zero actions 0, and a force against the position
    10 at best, because it oscillates for ever. With the velocity, a controller scores 58. On level
    ground an agent whose actions seem to act a row late still held the point, slowly (38); on the
    slope it loses the point (7 to 34).
    """

    action_low = -np.ones(1, np.float32)
    action_high = np.ones(1, np.float32)

    def __init__(self) -> None:
        self.seeds = np.random.default_rng(0)
        self.axis = (np.arange(32) + 0.5) / 16 - 1
        self.position = self.velocity = 0.0
        self.rows_left = 0

    def reset(self, seed: int | None = None) -> Step:
        random = np.random.default_rng(self.seeds.integers(2**31) if seed is None else seed)
        self.position = float(random.uniform(0.4, 0.9) * random.choice([-1, 1]))
        self.velocity = float(random.uniform(-0.6, 0.6))
        self.rows_left = 60
        return Step(self._draw(), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        for _ in range(2):
            self.velocity += 0.8 * float(action[0]) + 0.25 * self.position
            self.position += 0.05 * self.velocity
            if abs(self.position) > 1:
                self.position, self.velocity = float(np.sign(self.position)), -self.velocity
        self.rows_left -= 1
        reward = float(np.exp(-0.5 * (self.position / 0.15) ** 2))
        return Step(self._draw(), reward, is_last=self.rows_left == 0, env_steps=2)

    def _draw(self) -> NDArray[np.uint8]:
        image = np.full((32, 32, 3), 30.0)
        image[14:18] = (40, 120, 80)
        distance = np.hypot(1.1 * self.axis[None, :] - self.position, self.axis[:, None])
        share = (16 * (0.2 - distance) + 0.5).clip(0, 1)[..., None]
        return (image + share * (np.array((255, 230, 120)) - image)).astype(np.uint8)


def reward_cut() -> Any:
    """The reward head does not learn: its loss has weight 0, and any other weight lets it learn."""
    return mock.patch.dict(SETTINGS, {"objective": {"reward": {"weight": 0.0}}})


@contextmanager
def prior_sees() -> Iterator[None]:
    """While learning, the prior sees the image too; in imagination there is none."""
    observe = WorldModel.observe

    def observe_with_evidence(
        self: WorldModel, actions: Any, embeds: Any, valid: Any, noise: Any
    ) -> Any:
        contexts, posterior = observe(self, actions, embeds, valid, noise)
        evidence = self.posterior.evidence(embeds, actions, valid)
        return _Observed(contexts, evidence, self.posterior), posterior

    def imagine(self: Recurrent, context: Any, noise: Any) -> Any:
        if not isinstance(context, _Observed):
            return imagine_blindly(self, context, noise)
        rows = context.past.flatten(0, 1), context.evidence.flatten(0, 1)
        statistics = context.posterior.correct(*rows).unflatten(0, context.past.shape[:2])
        return self.believe(context.past, statistics, noise)

    imagine_blindly = Recurrent.imagine
    with (
        mock.patch.object(WorldModel, "observe", observe_with_evidence),
        mock.patch.object(Recurrent, "imagine", imagine),
    ):
        yield


class _Observed(NamedTuple):
    """The context of the past, and the evidence of the row's own image."""

    past: torch.Tensor  # [B, T, C]
    evidence: torch.Tensor  # [B, T, V]
    posterior: Any


def actions_late() -> Any:
    """Each row of a batch has the action of the next row, so actions seem to act a row late.

    With the action of the row before instead, seed 0 scored 33, too near the least score for a
    check. The alignment of rows has tests of its own.
    """
    return _batches(lambda batch: dataclasses.replace(batch, action=batch.action.roll(-1, 1)))


def episodes_mixed() -> Any:
    """Each row of a window comes from another episode."""
    random = np.random.default_rng(0)

    def mix(batch: Batch) -> Batch:
        rows, steps = batch.reward.shape
        order = np.stack([random.permutation(rows) for _ in range(steps)], 1)
        places = (torch.from_numpy(order), torch.arange(steps))
        names = ("image", "action", "reward", "discount", "valid")
        return dataclasses.replace(batch, **{name: getattr(batch, name)[places] for name in names})

    return _batches(mix)


def planner_noise() -> Any:
    """The planner returns random actions as its best ones."""

    def search(self: MPPI, score: Any, start: torch.Tensor, **others: Any) -> Search:
        generator = others["generators"][0]
        shape = (len(start), self.elites, *start.shape[1:])
        elites = torch.rand(shape, generator=generator) * 2 - 1
        return Search(elites[:, 0], torch.zeros(len(start)), elites, self.iterations)

    return mock.patch.object(MPPI, "search", search)


def _batches(change: Callable[[Batch], Batch]) -> Any:
    sample = Replay.sample
    return mock.patch.object(Replay, "sample", lambda *arguments: change(sample(*arguments)))


DEFECTS: dict[str, Callable[[], Any]] = {
    defect.__name__: defect
    for defect in (reward_cut, prior_sees, actions_late, episodes_mixed, planner_noise)
}


def play(seed: int, defect: str | None, steps: int = STEPS) -> dict[str, Any]:
    """Train with a defect or none, evaluate, and return the line of the table."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    with DEFECTS[defect]() if defect else nullcontext(), tempfile.TemporaryDirectory() as folder:
        config = read(Config(seed=seed), SETTINGS)
        outcome = worldmodel.train(config, f"{folder}/run", steps=steps, env=Glide())
    env = adopt(Glide())
    starts = range(EVALUATION_SEED, EVALUATION_SEED + len(outcome.returns))
    zero = np.zeros_like(env.action_low)
    score = float(np.mean(outcome.returns))
    return {
        "defect": defect or "none",
        "seed": seed,
        "env_steps": outcome.env_steps,
        "updates": outcome.updates,
        "wall_clock_s": round(time.monotonic() - begun),
        "score": round(score, 1),
        "random": round(
            float(np.mean([play_random(env, s).episode.total_reward for s in starts])), 1
        ),
        "zero": round(
            float(np.mean([play_constant(env, zero, s).episode.total_reward for s in starts])), 1
        ),
        "passes": "yes" if score >= PASS else "no",
        "settings": settings_hash(config),
    }


def commits() -> int:
    """The number of commits, which decides the seed and the defect of ``--turn``."""
    count = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=True
    )
    return int(count.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defect", choices=list(DEFECTS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--turn", action="store_true", help="one seed and one defect, in turn")
    parser.add_argument("--all", action="store_true", help="five seeds and five defects")
    parser.add_argument("--csv", type=Path, help="file for the table")
    asked = parser.parse_args()

    plan: list[tuple[int, str | None]] = [(asked.seed, asked.defect)]
    if asked.turn:
        turn = commits()
        plan = [(turn % len(SEEDS), None), (0, list(DEFECTS)[turn % len(DEFECTS)])]
    if asked.all:
        plan = [(seed, None) for seed in SEEDS] + [(0, defect) for defect in DEFECTS]
    wrong, lines = 0, []
    with ProcessPoolExecutor(
        min(len(plan), cores()), multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as processes:  # each trains in one process of one thread, so the scores stay the same
        begun = [processes.submit(play, seed, defect, asked.steps) for seed, defect in plan]
        for (_, defect), played in zip(plan, begun, strict=True):
            line = played.result()
            lines.append(line)
            right = (line["passes"] == "yes") == (defect is None)
            wrong += not right
            words = ", ".join(f"{name} {value}" for name, value in line.items())
            print(f"gate: {'as it should be' if right else 'WRONG'}: {words}", flush=True)
            if asked.csv:
                write(asked.csv, lines)
    return 1 if wrong else 0


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        file.write(
            f"# The learning check (python -m tests.gate --all --csv {path.name}): 32 x 32 images,"
            f" {STEPS:,} simulator steps, action repeat included.\n"
            f"# Ten episodes without exploration noise; a score of {PASS:g} passes. Random and zero"
            " action from the same starts. wall_clock_s: one process, other work on the machine.\n"
        )
        table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


if __name__ == "__main__":
    sys.exit(main())
