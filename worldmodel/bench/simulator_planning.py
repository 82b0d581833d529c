"""Plan with the true simulator as the model; writes returns to assets/bench/simulator_planning.csv.

    python -m worldmodel.bench.simulator_planning [TASK ...] [--episodes N] [--seed S] [--file FILE]

The difference from the return with a learned model is due to the model, the rest to the planner.
PlaNet (Hafner et al. 2019, table 1) reports the same experiment for six tasks, with CEM of 1000
candidates, 10 iterations and 12 rows: 10,000 candidates a decision; the search here has 128.
Rows of the file that are not played again stay. Seconds are wall-clock time on a machine that may
have had other work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from worldmodel.envs import Environment, make_env
from worldmodel.envs.simulator import Simulator, fork
from worldmodel.files import keep_row
from worldmodel.planners import (
    ICEM,
    MPPI,
    Planner,
    PlannerSettings,
    beginning_at,
    box,
    of_kind,
    with_candidates,
)
from worldmodel.progress import Progress

PLANET = {
    "cartpole_swingup": 850,
    "reacher_easy": 964,
    "finger_spin": 825,
    "ball_in_cup_catch": 993,
    "cheetah_run": 656,
    "walker_walk": 994,
}
TASKS = ("cartpole_balance", *PLANET)
# Over 50 rows of cartpole_balance from one seed, mppi, icem and cem of this size earned 398.6,
# 395.2 and 394.9 of 400, and only under mppi the cart did not drift. Not studied further.
SEARCH = MPPI(
    horizon=12,
    iterations=4,
    candidates=32,
    elites=8,
    initial_std=0.5,
    min_std=0.05,
    temperature=2.0,
)


def plan_with_simulator(
    env: Environment, planner: Planner, seed: int, rows: int | None = None
) -> float:
    """Play one episode from ``seed``, or its first ``rows``, in a copy of ``env``; its return.

    Each search starts from the last plan, shifted by a row. No image is drawn.
    """
    env = fork(env)
    row = env.reset(seed)
    score = Simulator(env)
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(1, planner.horizon, len(env.action_low))  # [1, L, A]
    proposals = None
    earned, played = 0.0, 0
    while not row.is_last and played != rows:
        search = planner.search(
            score,
            start,
            proposals=proposals,
            generators=[generator],
            project=box,
            out_of_time=lambda: False,
        )
        row = env.step(search.actions[0, 0].numpy())
        earned += row.reward
        played += 1
        start = later(search.actions)
        kept = round(ICEM().elites_kept * search.elites.shape[1])
        proposals = later(search.elites[:, :kept])  # [1, M, L, A]
    return earned


def later(actions: Tensor) -> Tensor:
    """Shift [..., L, A] by a row; the new last action is zero."""
    return torch.cat([actions[..., 1:, :], torch.zeros_like(actions[..., :1, :])], -2)


def settings(planner: PlannerSettings) -> str:
    numbers = asdict(planner)
    return " ".join(f"{name}={value}" for name, value in numbers.items() if name != "kind")


def measure(task: str, planner: PlannerSettings, seed: int) -> dict[str, str]:
    """Play one episode; return its row of the file."""
    env = make_env(task)
    begun = time.perf_counter()
    earned = plan_with_simulator(env, planner, seed)
    seconds = time.perf_counter() - begun
    env.close()
    return {
        "task": task,
        "planner": type(planner).__name__.lower(),
        "settings": settings(planner),
        "seed": str(seed),
        "return": f"{earned:.1f}",
        "seconds": f"{seconds:.0f}",
        "planet": str(PLANET.get(task, "")),
    }


def keep(file: Path, row: dict[str, str]) -> None:
    """Write ``row`` into the file; it replaces the row of the same task, planner and seed."""
    what = ("task", "planner", "settings", "seed")
    order = {task: place for place, task in enumerate(TASKS)}
    keep_row(file, row, what, lambda row: (order.get(row["task"], len(order)), row["seed"]))


def main(
    tasks: Sequence[str], episodes: int, seed: int, file: Path, planner: PlannerSettings
) -> None:
    torch.set_num_threads(1)  # the tensors are small
    with Progress(f"planning with the true simulator: {', '.join(tasks)}", None, None) as progress:
        for task in tasks:
            for number in range(seed, seed + episodes):
                row = measure(task, planner, number)
                keep(file, row)
                published = f" (PlaNet {row['planet']})" if row["planet"] else ""
                progress.event(
                    f"{task} seed {number}: {row['return']}{published} in {row['seconds']} s"
                )
        progress.done(str(file))


if __name__ == "__main__":
    import tyro

    def command(
        tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = TASKS,
        *,
        episodes: int = 1,
        seed: int = 0,
        file: Path = Path("assets/bench/simulator_planning.csv"),
        planner: Literal["cem", "icem", "mppi", "shooting"] = "mppi",
        horizon: int = SEARCH.horizon,
        iterations: int = SEARCH.iterations,
        candidates: int = SEARCH.candidates,
        elites: int = SEARCH.elites,
        initial_std: float = SEARCH.initial_std,
    ) -> None:
        """Plan with the true simulator as the model, and keep the returns.

        Args:
            tasks: of dm_control.
            episodes: of each task, from as many seeds.
            seed: of the first episode.
            file: where the rows are kept.
            horizon: in rows.
        """
        search = replace(
            with_candidates(of_kind(planner, SEARCH)),
            horizon=horizon,
            iterations=iterations,
            candidates=candidates,
            elites=elites,
        )
        main(tasks, episodes, seed, file, beginning_at(initial_std, search))

    tyro.cli(command)
