"""What a run does now and the time that is left, measured and shown while the run works."""

from __future__ import annotations

import time
from collections.abc import Callable

from worldmodel.agent import Agent
from worldmodel.loop.forecast import Costs, Kind, Schedule, Standing, seconds_left
from worldmodel.loop.reporter import Reporter
from worldmodel.loop.training import Training
from worldmodel.rollout import Collector, Job, ProcessCollector, Rows
from worldmodel.timing import warm_seconds

LOOK_S = 0.5  # least time between two looks
REMEMBERED = 20  # last lines of metrics.jsonl whose speeds an earlier call measured


class Outlook:
    """Measures the costs of a run's work, and reports its phase and the time that is left.

    Its owner calls ``begin_job`` with each job of the collector, ``look`` while it waits for rows,
    ``updated`` after each update, and ``begin_final`` before the final evaluation.
    """

    def __init__(
        self,
        schedule: Schedule,
        training: Training,
        collector: Collector,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self.costs = Costs()
        self._training = training
        self._collector = collector
        self._reporter = reporter
        self._clock = clock
        self._job: Job | None = None
        self._due = 0  # updates at the end of the present phase
        self._rate = 0.0  # updates for each environment step
        self._final_rows: int | None = None  # None before the final evaluation
        self._seen = Rows()
        self._looked_at = clock()

    def remember(self) -> None:
        """Take what earlier calls on this run wrote: their curves, scores, speeds, checkpoint."""
        metrics, evaluations = self._training.journal.history()
        where, state = self._training.where(), self._training.state
        if state.wall_clock_s:  # it was restored from a checkpoint
            saved = {"checkpoint_wall_clock_s": state.wall_clock_s}
            where = {**where, **saved, "checkpoint_env_steps": where["env_steps"]}
        self._reporter.remember([*metrics, where], evaluations)
        for line in metrics[-REMEMBERED:]:
            if line.get("updates_per_s", 0) > 0:
                self.costs.add("update", line["updates_per_s"], 1.0)
            if line.get("frames_per_s", 0) > 0:
                kind: Kind = "planned row" if "plan_ms" in line else "random row"
                self.costs.add(kind, line["frames_per_s"], 1.0)

    def begin_job(self, job: Job, due: int, rate: float) -> None:
        """``due``: the updates after this round; ``rate``: updates for each 1000 steps."""
        self._job, self._due, self._rate = job, due, rate / 1000
        self._seen, self._looked_at = Rows(), self._clock()
        self._show(Rows())  # the collector still has those of the job before

    def begin_updates(self, due: int, rate: float, agent: Agent) -> None:
        """The updates on the seed episodes, while nothing is collected.

        Some plans of ``agent`` give a first cost of a planned row: without it, the time that is
        left would not be known before the first round.
        """
        self._job, self._due, self._rate = None, due, rate / 1000
        self._show(Rows())
        if self.costs.of("planned row") is None:
            seconds = warm_seconds(agent.plan_blank, clock=self._clock)
            self.costs.add("planned row", 1, seconds + (self.costs.of("random row") or 0.0))

    def begin_final(self) -> None:
        """The final evaluation, which plays in this process."""
        self._job, self._final_rows, self._looked_at = None, 0, self._clock()
        self._show(Rows())

    def final_row(self) -> None:
        assert self._final_rows is not None
        self._final_rows += 1
        self.look()

    def updated(self, seconds: float) -> None:
        """Take the seconds of an update."""
        self.costs.add("update", 1, seconds)
        self.look()

    def look(self) -> None:
        """Measure the rows since the last look, and show the phase, if that was long enough ago."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        rows = self._rows
        played, evaluated = (
            rows.played - self._seen.played,
            rows.evaluated - self._seen.evaluated,
        )
        # The first rows come after the start of a process and of an environment.
        is_begun = self._seen != Rows()
        if is_begun and bool(played) != bool(evaluated):
            is_random = self._job is not None and self._job.random
            kind: Kind = "random row" if is_random else "planned row"
            if evaluated:
                kind = "evaluation row"
            self.costs.add(kind, played or evaluated, now - self._looked_at)
        self._seen, self._looked_at = rows, now
        self._show(rows)

    @property
    def _rows(self) -> Rows:
        if self._final_rows is not None:
            return Rows(evaluated=self._final_rows)
        return self._collector.rows if self._job is not None else Rows()

    def _show(self, rows: Rows) -> None:
        at = self._standing(rows)
        what, detail = self._phase(at)
        self._reporter.phase(what, detail, self._left(at))

    def _left(self, at: Standing) -> float | None:
        at_once = isinstance(self._collector, ProcessCollector)
        return seconds_left(self._schedule, at, self.costs, at_once)

    def _standing(self, rows: Rows) -> Standing:
        replay, state = self._training.replay, self._training.state
        job = self._job if self._job is not None and not self._job.random else None
        episodes = replay.episodes
        return Standing(
            wall_clock_s=self._training.wall_clock_s,
            env_steps=replay.env_steps,
            episodes=episodes,
            rows_per_episode=replay.rows / episodes if episodes else 0.0,
            steps_per_episode=replay.env_steps / episodes if episodes else 0.0,
            updates=state.updates,
            updates_due=self._due,
            updates_per_step=self._rate,
            next_evaluation=state.next_evaluation,
            present_episodes=job.count if job else 0,
            present_evaluation=job.evaluation_episodes if job else 0,
            rows_played=rows.played,
            rows_evaluated=rows.evaluated,
            is_final=self._final_rows is not None,
        )

    def _phase(self, at: Standing) -> tuple[str, str]:
        """The phase, and a count of what it has done."""
        schedule = self._schedule
        if at.is_final:
            share = _percent(at.rows_evaluated, schedule.final_episodes * at.rows_per_episode)
            return "final evaluation", f"{_episodes(schedule.final_episodes)}{share}"
        if at.episodes < schedule.seed_episodes:
            starts = ", the environment starts" if not (at.env_steps or at.rows_played) else ""
            count = f"{at.episodes + 1}/{schedule.seed_episodes}"
            return "playing random episodes", f"{count}{starts}"
        if self._job is None:
            return "learning from them", f"{at.updates:,}/{self._due:,}"
        first = self._job.episode + 1
        if at.rows_evaluated:
            share = _percent(at.rows_evaluated, at.present_evaluation * at.rows_per_episode)
            playing = f"evaluating {_episodes(at.present_evaluation)}{share}"
        elif at.present_episodes > 1:
            share = _percent(at.rows_played, at.present_episodes * at.rows_per_episode)
            playing = f"episodes {first}-{first + at.present_episodes - 1}{share}"
        else:
            playing = f"episode {first}{_percent(at.rows_played, at.rows_per_episode)}"
        learning = f", update {at.updates:,}/{self._due:,}" if at.updates < self._due else ""
        return "training:", f"{playing}{learning}"


def _percent(done: float, whole: float) -> str:
    """The share that is done; at most 99 %, because how long an episode gets is not known."""
    return f" {min(99, int(100 * done / whole))}%" if whole else ""


def _episodes(count: int) -> str:
    return f"{count} episode" if count == 1 else f"{count} episodes"
