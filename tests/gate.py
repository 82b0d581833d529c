"""The learning check: agents learn a pixel task to a score that broken parts and luck miss.

    python -m tests.gate                        one seed, whole
    python -m tests.gate --defect actions_late  the same, with a part broken: must fail
    python -m tests.gate --turn                 what every check of a change runs: one seed and one
                                                defect, others each time (it counts the commits)
    python -m tests.gate --all --csv FILE       five seeds, five defects, as a table

The task is the smallest honest one: a point lies on a hill, its velocity is in no single image, and
it is to be held at the top. Training is the product's own, through its front door, in
one process and at stated steps, so that a seed gives the same score again on the same machine.
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
    "task": "toy",  # the name of an environment of one's own does not matter
    "env": {"image_size": 32},
    "replay": {"batch": 12, "length": 16},
    # Fresh noise in each row: of noise that lasts, the action before tells nearly as much.
    "loop": {"seed_episodes": 10, "updates": 150, "evaluate_every": 10_000},
    "exploration": {"memory": 0.0},
}
# Simulator steps. Until the defaults became smaller nets, fewer starts and two draws it was 3,600;
# then seeds 0 and 3 stood at 40 and 37 there, 1 and 2 at 56; at 4,440 they are at 56 too.
STEPS = 4_440
# The push of the task was settled while looking at five seeds and defects on a line that was level,
# this line at seed 0, whole and late, on a slope twice as steep; then the slope was halved, as seed
# 1 had not learned there, and kept for seed 1, and actions_late with the seeds 0 and 5.
# The line was drawn midway between the worst of seven whole seeds of the defaults before, 51, and
# the best of four late ones, 34 (assets/learning_check_defaults-2.csv), and stayed.
PASS = 43.0  # mean of ten episodes of 60 rows, each worth 1 at most
SEEDS = range(5)


class Glide:
    """A point on a hill, pushed by the action, thrown back by walls at both ends.

    Over 20 starts, uniform random actions score 8, none at all 0, pushing back in proportion to
    the place 10 at best: it swings for ever. Once the velocity is known, 58. On level ground who
    takes actions to work a row late held it too, if slowly (38); on a slope they lose it (7 to 34).
    """

    action_low = -np.ones(1, np.float32)
    action_high = np.ones(1, np.float32)

    def __init__(self) -> None:
        self.seeds = np.random.default_rng(0)
        self.axis = (np.arange(32) + 0.5) / 16 - 1
        self.place = self.velocity = 0.0
        self.rows_left = 0

    def reset(self, seed: int | None = None) -> Step:
        random = np.random.default_rng(self.seeds.integers(2**31) if seed is None else seed)
        self.place = float(random.uniform(0.4, 0.9) * random.choice([-1, 1]))
        self.velocity = float(random.uniform(-0.6, 0.6))
        self.rows_left = 60
        return Step(self._draw(), env_steps=0)

    def step(self, action: NDArray[np.float32]) -> Step:
        for _ in range(2):
            self.velocity += 0.8 * float(action[0]) + 0.25 * self.place
            self.place += 0.05 * self.velocity
            if abs(self.place) > 1:
                self.place, self.velocity = float(np.sign(self.place)), -self.velocity
        self.rows_left -= 1
        reward = float(np.exp(-0.5 * (self.place / 0.15) ** 2))
        return Step(self._draw(), reward, is_last=self.rows_left == 0, env_steps=2)

    def _draw(self) -> NDArray[np.uint8]:
        image = np.full((32, 32, 3), 30.0)
        image[14:18] = (40, 120, 80)
        distance = np.hypot(1.1 * self.axis[None, :] - self.place, self.axis[:, None])
        share = (16 * (0.2 - distance) + 0.5).clip(0, 1)[..., None]
        return (image + share * (np.array((255, 230, 120)) - image)).astype(np.uint8)


def reward_cut() -> Any:
    """The reward head learns nothing: no setting of the weight but 0 does."""
    return mock.patch.dict(SETTINGS, {"objective": {"reward": {"weight": 0.0}}})


@contextmanager
def prior_sees() -> Iterator[None]:
    """While learning, the prior is read from the image too; imagination has none."""
    observe = WorldModel.observe

    def seeing(self: WorldModel, actions: Any, embeds: Any, noise: Any) -> Any:
        contexts, posterior = observe(self, actions, embeds, noise)
        evidence = self.posterior.evidence(embeds, actions)
        return _Seen(contexts, evidence, self.posterior), posterior

    def imagine(self: Recurrent, context: Any, noise: Any) -> Any:
        if not isinstance(context, _Seen):
            return imagine_blindly(self, context, noise)
        rows = context.past.flatten(0, 1), context.evidence.flatten(0, 1)
        statistics = context.posterior.correct(*rows).unflatten(0, context.past.shape[:2])
        return self.believe(context.past, statistics, noise)

    imagine_blindly = Recurrent.imagine
    with (
        mock.patch.object(WorldModel, "observe", seeing),
        mock.patch.object(Recurrent, "imagine", imagine),
    ):
        yield


class _Seen(NamedTuple):
    """What the past says, and what the image of the row itself shows."""

    past: torch.Tensor  # [B, T, C]
    evidence: torch.Tensor  # [B, T, V]
    posterior: Any


def actions_late() -> Any:
    """Rows of a batch carry the action after theirs: what is done seems to act a row late.

    The other way round (each row the action before its own) seed 0 came to 33, too near the line to
    stand for anything. Aligned rows have tests of their own.
    """
    return _batches(lambda batch: dataclasses.replace(batch, action=batch.action.roll(-1, 1)))


def episodes_mixed() -> Any:
    """Every row of a window comes from an episode of its own."""
    random = np.random.default_rng(0)

    def mix(batch: Batch) -> Batch:
        rows, steps = batch.reward.shape
        order = np.stack([random.permutation(rows) for _ in range(steps)], 1)
        places = (torch.from_numpy(order), torch.arange(steps))
        names = ("image", "action", "reward", "discount", "valid")
        return dataclasses.replace(batch, **{name: getattr(batch, name)[places] for name in names})

    return _batches(mix)


def planner_noise() -> Any:
    """The planner answers at random, as if the best of what it tried."""

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
    """Train, evaluate, say."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    with DEFECTS[defect]() if defect else nullcontext(), tempfile.TemporaryDirectory() as folder:
        config = read(Config(seed=seed), SETTINGS)
        outcome = worldmodel.train(config, f"{folder}/run", steps=steps, env=Glide())
    env = adopt(Glide())
    starts = range(EVALUATION_SEED, EVALUATION_SEED + len(outcome.returns))
    still = np.zeros_like(env.action_low)
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
            float(np.mean([play_constant(env, still, s).episode.total_reward for s in starts])), 1
        ),
        "passes": "yes" if score >= PASS else "no",
        "settings": settings_hash(config),
    }


def commits() -> int:
    """How far the project has come: which seed's and which defect's turn it is."""
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
    parser.add_argument("--csv", type=Path, help="where the rows go")
    asked = parser.parse_args()

    plan: list[tuple[int, str | None]] = [(asked.seed, asked.defect)]
    if asked.turn:
        turn = commits()
        plan = [(turn % len(SEEDS), None), (0, list(DEFECTS)[turn % len(DEFECTS)])]
    if asked.all:
        plan = [(seed, None) for seed in SEEDS] + [(0, defect) for defect in DEFECTS]
    wrong, rows = 0, []
    with ProcessPoolExecutor(
        min(len(plan), cores()), multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as processes:  # each trains in one process of one thread, so the scores stay the same
        begun = [processes.submit(play, seed, defect, asked.steps) for seed, defect in plan]
        for (_, defect), played in zip(plan, begun, strict=True):
            row = played.result()
            rows.append(row)
            right = (row["passes"] == "yes") == (defect is None)
            wrong += not right
            words = ", ".join(f"{name} {value}" for name, value in row.items())
            print(f"gate: {'as it should be' if right else 'WRONG'}: {words}", flush=True)
            if asked.csv:
                write(asked.csv, rows)
    return 1 if wrong else 0


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        file.write(
            f"# The learning check (python -m tests.gate --all --csv {path.name}): 32 x 32 images,"
            f" {STEPS:,} simulator steps, action repeat included.\n"
            f"# Ten episodes without exploration noise; a score of {PASS:g} passes. Random and zero"
            " action from the same starts. wall_clock_s: one process, other work beside it.\n"
        )
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
