"""The time that a run still needs: measured costs times the work that is left.

Nothing here reads a clock or knows a model, so a simulated run tests it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from worldmodel.config import LoopSettings

HALF_LIFE_S = 60.0  # a measurement counts half after so many seconds of newer ones

Kind = Literal["random row", "planned row", "evaluation row", "update"]
"""What costs time: a row of an episode, or an update of the weights."""


class Costs:
    """Seconds that one piece of work takes, for each kind; recent measurements count more."""

    def __init__(self) -> None:
        self._measured: dict[Kind, tuple[float, float]] = {}  # pieces, seconds

    def add(self, kind: Kind, pieces: float, seconds: float) -> None:
        """Take a measurement: so many pieces took so many seconds."""
        fade = 0.5 ** (seconds / HALF_LIFE_S)
        before, took = self._measured.get(kind, (0.0, 0.0))
        self._measured[kind] = fade * before + pieces, fade * took + seconds

    def of(self, kind: Kind) -> float | None:
        """Seconds of one piece; None before the first measurement.

        A row of an evaluation costs at most as much as a planned row: its episodes are planned for
        together. So a planned row stands for it until one was measured.
        """
        if kind == "evaluation row" and kind not in self._measured:
            return self.of("planned row")
        pieces, seconds = self._measured.get(kind, (0.0, 0.0))
        return seconds / pieces if pieces else None


@dataclass(frozen=True)
class Stage:
    """Work of a collector and of a learner, and how often it is repeated."""

    collecting: Mapping[Kind, float]  # pieces of each kind
    learning: Mapping[Kind, float]
    times: float = 1.0

    def seconds(self, costs: Costs, at_once: bool) -> float | None:
        """None if a cost is not known. ``at_once``: collector and learner work in parallel."""
        parts = [_seconds(work, costs) for work in (self.collecting, self.learning)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return self.times * (max(known) if at_once else sum(known))


@dataclass(frozen=True)
class Schedule:
    """The settings that decide how much work a run is."""

    seed_episodes: int
    seed_updates: int
    episodes_at_once: int
    evaluate_every: int  # environment steps
    evaluate_episodes: int
    final_episodes: int
    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def of(
        cls, loop: LoopSettings, final_episodes: int, steps: int | None, minutes: float | None
    ) -> Schedule:
        return cls(
            loop.seed_episodes,
            loop.seed_updates,
            loop.episodes_at_once,
            loop.evaluate_every,
            loop.evaluate_episodes,
            final_episodes,
            steps,
            minutes,
        )


@dataclass(frozen=True)
class Standing:
    """Where a run stands. "Present" is what it does now; what is done of it is subtracted."""

    wall_clock_s: float = 0.0
    env_steps: int = 0  # of whole episodes
    episodes: int = 0
    rows_per_episode: float = 0.0  # 0 before the first episode
    steps_per_episode: float = 0.0
    updates: int = 0
    updates_due: int = 0  # at the end of the present round
    updates_per_step: float = 0.0
    next_evaluation: int = 0  # environment steps
    present_episodes: int = 0  # for training, which are played now
    present_evaluation: int = 0  # episodes
    rows_played: int = 0  # of the present episodes
    rows_evaluated: int = 0
    is_final: bool = False  # only the final evaluation is left


def seconds_left(
    schedule: Schedule, at: Standing, costs: Costs, at_once: bool = True
) -> float | None:
    """Seconds until the final weights are evaluated; None if not known, or without an end.

    ``at_once``: a collector plays in a process of its own while the learner learns.
    """
    final = _final(schedule, at).seconds(costs, at_once)
    if at.is_final:
        return final
    ends = []
    if schedule.minutes is not None:
        ends.append(max(0.0, 60 * schedule.minutes - at.wall_clock_s))
    if schedule.steps is not None:
        parts = [
            stage.seconds(costs, at_once) for stage in stages_left(schedule, at, schedule.steps)
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not at.rows_per_episode:
            return None
        ends.append(sum(known))
    return min(ends) + (final or 0.0) if ends else None


def stages_left(schedule: Schedule, at: Standing, steps: int) -> list[Stage]:
    """All that is left until ``steps``, without the final evaluation."""
    seeds = max(0, schedule.seed_episodes - at.episodes)
    is_seeding = seeds > 0 or at.updates < schedule.seed_updates
    reached: float = at.env_steps
    next_evaluation = at.next_evaluation
    stages = []
    if is_seeding:
        rows = max(0.0, seeds * at.rows_per_episode - at.rows_played)
        stages.append(Stage({"random row": rows}, {}))
        stages.append(Stage({}, {"update": schedule.seed_updates - at.updates}))
        reached += seeds * at.steps_per_episode
    elif at.present_episodes:
        stages.append(_present(at))
        reached += at.present_episodes * at.steps_per_episode
        if at.present_evaluation:
            every = schedule.evaluate_every
            next_evaluation = at.env_steps - at.env_steps % every + every
    return [*stages, *_rounds(schedule, at, steps, reached, next_evaluation)]


def _present(at: Standing) -> Stage:
    """The rest of the present round."""
    rows = at.present_episodes * at.rows_per_episode - at.rows_played
    evaluated = at.present_evaluation * at.rows_per_episode - at.rows_evaluated
    return Stage(
        {"planned row": max(0.0, rows), "evaluation row": max(0.0, evaluated)},
        {"update": max(0, at.updates_due - at.updates)},
    )


def _rounds(
    schedule: Schedule, at: Standing, steps: int, reached: float, next_evaluation: int
) -> list[Stage]:
    """The whole rounds between ``reached`` and ``steps``: those that evaluate, and the others."""
    if reached >= steps or not at.steps_per_episode:
        return []
    together = schedule.episodes_at_once
    rounds = math.ceil((steps - reached) / at.steps_per_episode) / together
    first = max(reached, next_evaluation)
    evaluations = 1 + (steps - 1 - first) // schedule.evaluate_every if first < steps else 0
    evaluations = min(rounds, evaluations)
    rows = together * at.rows_per_episode
    updates = together * at.steps_per_episode * at.updates_per_step
    evaluated = schedule.evaluate_episodes * at.rows_per_episode
    learning: Mapping[Kind, float] = {"update": updates}
    return [
        Stage({"planned row": rows}, learning, rounds - evaluations),
        Stage({"planned row": rows, "evaluation row": evaluated}, learning, evaluations),
    ]


def _final(schedule: Schedule, at: Standing) -> Stage:
    rows = schedule.final_episodes * at.rows_per_episode
    done = at.rows_evaluated if at.is_final else 0
    return Stage({"evaluation row": max(0.0, rows - done)}, {})


def _seconds(work: Mapping[Kind, float], costs: Costs) -> float | None:
    """The time of this work; None if the cost of a kind is not known."""
    total = 0.0
    for kind, pieces in work.items():
        if not pieces:
            continue
        cost = costs.of(kind)
        if cost is None:
            return None
        total += pieces * cost
    return total
