"""Measure a trained agent's return and the cost of its plans, by planner and budget.

    python -m worldmodel.experiments.planner_budgets [--weights FILE] [--only NAME ...]
    python -m worldmodel.experiments.planner_budgets --deadlines

It plays episodes in the true simulator from the same starts, without exploration noise, by default
with the weights of the demo. Episodes in the file that are not played again stay. ``--deadlines``
also draws a figure next to the file; deadlines are meaningful on an idle machine only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from worldmodel import model_file
from worldmodel.agent import Agent
from worldmodel.bench.counting_planner import counting
from worldmodel.bench.measure import Cell, Table, describe
from worldmodel.bench.plan import imagined_return
from worldmodel.checks import ConfigError, nearest
from worldmodel.demo import WEIGHTS
from worldmodel.envs import Environment, make_env_of_file
from worldmodel.files import keep_row, read_rows
from worldmodel.models.imagination import Imagination
from worldmodel.planners import of_kind, with_candidates
from worldmodel.progress import Progress
from worldmodel.rollout import plan_seeds
from worldmodel.structs import Latent, at

if TYPE_CHECKING:  # matplotlib is imported only to draw
    from matplotlib.figure import Figure

POLICY = "policy"  # the policy acts, without a search
DEADLINES_MS = (5.0, 10.0, 20.0, 50.0, 100.0, None)
ALONE = {"proposals": 0, "warm_start": False}  # only the search, as PlaNet plans


@dataclass(frozen=True)
class Budget:
    """A planner and the size of its search."""

    kind: str
    candidates: int
    iterations: int
    horizon: int
    elites: int
    planning: Mapping[str, Any] = field(default_factory=dict)  # settings that differ

    def of(self, agent: Agent) -> Agent:
        """An agent of the same model that plans with this budget."""
        sizes = {name: getattr(self, name) for name in ("candidates", "iterations", "horizon")}
        planner = replace(
            with_candidates(of_kind(self.kind, agent.planner)), elites=self.elites, **sizes
        )
        return agent.changed(planner=planner, planning=replace(agent.planning, **self.planning))


BUDGETS = {
    "cem 1000 x 10 x 12, as PlaNet": Budget("cem", 1000, 10, 12, 100, ALONE),
    "cem 300 x 5 x 12": Budget("cem", 300, 5, 12, 30, ALONE),
    "cem 100 x 5 x 12": Budget("cem", 100, 5, 12, 10, ALONE),
    "cem 64 x 3 x 6": Budget("cem", 64, 3, 6, 16, ALONE),
    "icem 100 x 5 x 12": Budget("icem", 100, 5, 12, 10, {"proposals": 0}),
    "icem 64 x 3 x 6": Budget("icem", 64, 3, 6, 16, {"proposals": 0}),
    "icem 64 x 3 x 6, 16 proposals": Budget("icem", 64, 3, 6, 16, {"proposals": 16}),
    "mppi 100 x 5 x 12": Budget("mppi", 100, 5, 12, 16, {"proposals": 0}),
    "mppi 64 x 3 x 6": Budget("mppi", 64, 3, 6, 16, {"proposals": 0}),
    "mppi 64 x 3 x 6, 16 proposals": Budget("mppi", 64, 3, 6, 16, {"proposals": 16}),
    "mppi 32 x 2 x 6, 8 proposals": Budget("mppi", 32, 2, 6, 8, {"proposals": 8}),
    "shooting 192 x 1 x 6": Budget("shooting", 192, 1, 6, 16, ALONE),
    "gradient 16 x 6 x 6": Budget("gradient", 16, 6, 6, 4, {"proposals": 0}),
}
# The default, which has the policy's proposals, and a search without proposals. The second is so
# large that only the longest deadline lets it finish, so its return depends on the time only.
DEFAULT = "mppi 64 x 3 x 6, 16 proposals"
WITH_DEADLINES = {
    DEFAULT: BUDGETS[DEFAULT],
    "icem 512 x 6 x 12": Budget("icem", 512, 6, 12, 32, {"proposals": 0}),
}


@dataclass(frozen=True)
class Episode:
    """One episode, which is a line of the file."""

    planner: str
    deadline_ms: float | None
    seed: int
    rows: int  # decisions
    latent_steps: float  # imagined for one decision, on average
    earned: float  # return in the true simulator
    promised: float  # mean imagined return of the executed plans


def play(
    agent: Agent,
    env: Environment,
    planner: str,
    seed: int,
    deadline_ms: float | None = None,
    rows: int | None = None,
) -> Episode:
    """Play an episode, or its first ``rows``, with the planner, or with the policy for POLICY."""
    agent, counted = counting(agent)
    seeds = plan_seeds(seed)
    row, belief, plan = env.reset(seed), agent.initial(), None
    earned, promised = 0.0, list[float]()
    while not row.is_last and len(promised) != rows:
        assert row.action is not None
        belief = agent.observe(belief, row.action, row.observation)
        if planner == POLICY:
            actions = policy_actions(agent, belief)
        else:
            plan = agent.plan(belief, plan, next(seeds), deadline_ms)
            actions = plan.actions
        promised.append(imagined_return(agent, belief, actions))
        row = env.step(actions[0].numpy())
        earned += row.reward
    steps = counted.steps / len(promised)
    mean = float(np.mean(promised))
    return Episode(planner, deadline_ms, seed, len(promised), steps, earned, mean)


@torch.no_grad()
def policy_actions(agent: Agent, belief: Latent) -> Tensor:
    """The policy's mean actions [L, A], imagined from ``belief``."""
    no_noise = torch.zeros(1, 1, agent.horizon, agent.model.spec.action_size)
    return Imagination(agent.model, None).follow(at(belief, None), no_noise)[0, 0]


def summarise(episodes: Sequence[Episode]) -> Table:
    """A table with a line for each planner and deadline; the spread is over episodes."""
    groups: dict[tuple[str, float | None], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.planner, episode.deadline_ms), []).append(episode)
    rows = []
    for (planner, deadline_ms), group in groups.items():
        earned = [episode.earned for episode in group]
        row: dict[str, Cell] = {"planner": planner}
        if any(episode.deadline_ms is not None for episode in episodes):
            row["deadline ms"] = "none" if deadline_ms is None else deadline_ms
        rows.append(row | {
            "latent steps a decision": float(np.mean([e.latent_steps for e in group])),
            "episodes": len(group),
            "return": float(np.mean(earned)),
            "spread": float(np.std(earned)),
            "promised": float(np.mean([e.promised for e in group])),
        })  # fmt: skip
    return Table("returns of plans in the true simulator, and under the model", rows)


def plot_deadlines(episodes: Sequence[Episode]) -> Figure:
    """Draw returns over deadlines, a point for each episode; without a deadline, a dashed line."""
    from worldmodel.report.figures import name_axes, panels
    from worldmodel.report.palette import LIGHT

    figure, (axes,) = panels([[0]], width=9, height=5)
    limits = sorted({e.deadline_ms for e in episodes if e.deadline_ms is not None})
    for planner, colour in zip(WITH_DEADLINES, (LIGHT.model, LIGHT.hold_last), strict=True):
        own = [e for e in episodes if e.planner == planner]
        earned = {ms: [e.earned for e in own if e.deadline_ms == ms] for ms in limits}
        played = [ms for ms in limits if earned[ms]]
        for ms in played:
            axes.plot([ms] * len(earned[ms]), earned[ms], "o", color=colour, alpha=0.3)
        heights = [float(np.mean(earned[ms])) for ms in played]
        axes.plot(played, heights, color=colour, lw=2.5, label=planner)
        if free := [e.earned for e in own if e.deadline_ms is None]:
            level, label = float(np.mean(free)), "without a deadline"
            axes.axhline(level, color=colour, ls="--", lw=1.5, label=label)
    axes.set_xscale("log")
    axes.set_xticks(limits, [f"{ms:g}" for ms in limits])
    axes.legend()
    name_axes(axes, "return by deadline", "deadline, ms", "return")
    return figure


def keep(file: Path, episode: Episode, header: Sequence[str]) -> list[Episode]:
    """Write an episode into the file, in place of an earlier one; return all episodes in it."""
    row = {
        "planner": episode.planner,
        "deadline_ms": "" if episode.deadline_ms is None else f"{episode.deadline_ms:g}",
        "seed": str(episode.seed),
        "rows": str(episode.rows),
        "latent_steps": f"{episode.latent_steps:.1f}",
        "return": f"{episode.earned:.1f}",
        "promised": f"{episode.promised:.1f}",
    }
    like = ("planner", "deadline_ms", "seed")
    return [_episode(row) for row in keep_row(file, row, like, _order, header)]


def read(file: Path) -> list[Episode]:
    """The episodes in the file; none if there is no file yet."""
    return [_episode(row) for row in read_rows(file)]


def _episode(row: Mapping[str, str]) -> Episode:
    return Episode(
        row["planner"],
        float(row["deadline_ms"]) if row["deadline_ms"] else None,
        int(row["seed"]),
        int(row["rows"]),
        float(row["latent_steps"]),
        float(row["return"]),
        float(row["promised"]),
    )


def _order(row: Mapping[str, str]) -> tuple[int, float, int]:
    """Sort by planner, in the order of ``BUDGETS``, then by deadline and seed."""
    episode = _episode(row)
    names = [POLICY, *BUDGETS, *WITH_DEADLINES]
    place = names.index(episode.planner) if episode.planner in names else len(names)
    return place, episode.deadline_ms or np.inf, episode.seed


def main(
    weights: Path,
    only: Sequence[str],
    episodes: int,
    seed: int,
    rows: int | None,
    deadlines: bool,
    file: Path,
) -> None:
    """Play all planners from the first start, then all from the next."""
    torch.set_num_threads(1)  # the tensors are small
    packed = model_file.read(weights)
    agent, config, about = packed.agent, packed.config, packed.about
    budgets = WITH_DEADLINES if deadlines else BUDGETS
    agents = {name: budget.of(agent) for name, budget in budgets.items()}
    if not deadlines:
        agents = {POLICY: agent, **agents}
    for name in only:
        if name not in agents:
            raise ConfigError(f"only: {name}: no such planner{nearest(name, list(agents))}")
    renderer = about["environment"]["renderer"]
    env = make_env_of_file(config.task, replace(config.env, renderer=renderer), seed)
    played: list[Episode] = read(file)
    header = [
        f"python -m worldmodel.experiments.planner_budgets{' --deadlines' if deadlines else ''}:"
        f" {f'the first {rows} rows of an episode' if rows else 'whole episodes'}"
        f" of {config.task}, {weights.name} with sha256 {about['sha256'][:12]}, one thread",
        "latent_steps: imagined for one decision (candidates x rows, and the policy's proposals),"
        " without backward passes; return: in the true simulator",
        "promised: mean return of the plans under the model, the value of the last row included;"
        " settings that are not named are the default preset's",
    ]  # fmt: skip
    with Progress(f"{len(agents)} planners, {episodes} starts", None, None) as progress:
        for number in range(seed, seed + episodes):
            for name, each in agents.items():
                if only and name not in only:
                    continue
                for deadline_ms in DEADLINES_MS if deadlines else (None,):
                    if deadline_ms is not None:
                        each.warm_up()
                    episode = play(each, env, name, number, deadline_ms, rows)
                    played = keep(file, episode, header)
                    progress.event(
                        f"{name}, {deadline_ms or 'no'} deadline, start {number}:"
                        f" {episode.earned:.0f}"
                    )
        env.close()
        for line in describe(summarise(played)).splitlines():
            progress.event(line)
        progress.done(str(file))
    if deadlines:
        plot_deadlines(played).savefig(file.with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    import tyro

    def command(
        *,
        weights: Path = WEIGHTS,
        only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = (),
        episodes: int = 3,
        seed: int = 0,
        rows: int | None = None,
        deadlines: bool = False,
        file: Path | None = None,
    ) -> None:
        """Play a trained agent with several planners and budgets, or deadlines, and keep returns.

        Args:
            weights: of an agent, in the form of the demo's.
            only: the planners to play; all by default.
            episodes: for each planner, each from a start of its own.
            seed: of the first start.
            rows: the first so many of each episode; all by default.
            deadlines: play the default and one large budget under several deadlines.
            file: that keeps the episodes.
        """
        name = "plan_deadlines.csv" if deadlines else "plan_quality.csv"
        main(weights, only, episodes, seed, rows, deadlines, file or Path("assets/bench") / name)

    tyro.cli(command, prog="python -m worldmodel.experiments.planner_budgets")
