"""An exported agent: it observes and plans as the original does, without torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.export.imagined import (
    Belief,
    Imagination,
    ImaginedReturn,
    LatentScore,
    named,
    repeated,
    unnamed,
)
from worldmodel.export.inputs import (
    Observation,
    checked,
    checked_delay,
    checked_noise,
    checked_row,
)
from worldmodel.export.made import Goal, Normals, Plan
from worldmodel.export.onnx_graph import Graph, read_about
from worldmodel.export.planning import begin, projection, search_from, shifted
from worldmodel.export.search import Floats, search_of
from worldmodel.images import ImageFit
from worldmodel.limits import Limits
from worldmodel.origin import Origin, agents_words
from worldmodel.timing import Lateness, PlanTiming, TimedPlan, measure

# For how many rows a goal image is observed until the belief no longer changes, as the agent does.
ROWS_AT_REST = 3


class Runner:
    """An exported agent, for one robot: the same belief and seed give the same plan.

    ``threads``: of onnxruntime. Planning is many small products; a second thread rarely helps.
    Between calls it keeps ``timing``, which each plan with a deadline corrects.
    """

    def __init__(
        self,
        folder: str | Path,
        threads: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._made_of = folder, threads
        folder = Path(folder)
        self.about: dict[str, Any] = read_about(folder)
        spec, planning = self.about["spec"], self.about["planning"]
        self.image_shape: tuple[int, ...] = tuple(spec["image"])
        self.action_size: int = spec["action_size"]
        self.has_choices: bool = spec["has_choices"]
        self.vector_sizes: dict[str, int] = spec["vectors"]  # by name
        self.fitting = ImageFit.described(spec)  # of the cameras' images
        origin = self.about["origin"]
        self.origin = None if origin is None else Origin(**origin)
        self._warm_start: bool = planning["warm_start"]
        self._is_sampled: bool = planning["sampled"]
        self._proposals: int = planning["proposals"]
        self._search = search_of(self.about["search"])
        self._free_search = search_of(self.about["free_search"])
        graphs = {n: Graph(folder, file, threads) for n, file in self.about["graphs"].items()}
        self._observe = graphs["observe"]
        self._imagination = Imagination(graphs, self.about["noise_size"])
        self.timing, self._clock, self._lateness = PlanTiming(), clock, Lateness()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder's name: a process of its own reads the folder again."""
        return Runner, self._made_of

    def __repr__(self) -> str:
        said = agents_words(
            self.origin,
            self.image_shape,
            self.vector_sizes,
            self.action_size,
            self.has_choices,
            self.about["planner"],
        )
        return f"Runner({said})"

    @property
    def horizon(self) -> int:
        """The rows of a plan."""
        return self._search.horizon

    def initial(self) -> Belief:
        """The belief before the first image."""
        return {
            name: np.full(part["shape"], part["initial"], np.float32)
            for name, part in self.about["belief"].items()
        }

    def no_action(self) -> Floats:
        """[A] the action before the first image."""
        return np.zeros(self.action_size, np.float32)

    def observe(
        self,
        belief: Belief,
        action: NDArray[np.floating],
        image: Observation,
        seed: int = 0,
        noise: Floats | None = None,
    ) -> Belief:
        """The belief after ``action`` [A] was *done* and ``image`` [H, W, C] was seen.

        An image of another shape is fitted as in training, or refused if it has another aspect.
        An agent that learned from vectors too takes ``{"image": image, "joints": [V], ...}``.
        Most agents follow the mean; one that draws takes ``seed`` or ``noise`` as ``plan`` does.
        """
        return self._observed(belief, action, image, seed, noise)[0]

    def imagine(self, belief: Belief, action: NDArray[np.floating]) -> Belief:
        """The belief after ``action`` [A] was done and no image came, as when a camera fails."""
        done = checked("action", action, (self.action_size,))[None]
        latents, _ = self._imagination.step(repeated(belief, 1), done)
        return {name: part[0] for name, part in latents.items()}

    def is_finite(self, belief: Belief) -> bool:
        """Whether a belief holds finite numbers only, as broken weights do not give."""
        return all(bool(np.isfinite(part).all()) for part in belief.values())

    def plan(
        self,
        belief: Belief,
        previous: Plan | None = None,
        seed: int = 0,
        deadline_ms: float | None = None,
        score: LatentScore | None = None,
        limits: Limits | None = None,
        delay: NDArray[np.floating] | None = None,
        *,
        noise: Floats | None = None,
    ) -> Plan:
        """Search for the actions with the best imagined return.

        ``previous``: the last plan, which the search starts from, shifted by one row. ``seed``: the
        same belief, plan and seed give the same plan. ``noise``: standard normal numbers to use
        instead of those that follow from the seed, ``about["noise"]["plan"]`` of them.

        ``deadline_ms``: return the best plan found when the time is up; call ``warm_up`` before.
        Without time for a search the plan is the policy's own actions, or else the previous plan,
        shifted by one row. Its ``origin`` says which.

        ``score``: plan for this instead of the reward, such as ``goal(image)`` or a function of
        latents [1, N, L, F] and actions [1, N, L, A] that returns [1, N, L]. ``limits``: limits of
        every action that the search imagines or returns. ``delay`` [D, A]: actions already under
        way, the next one first; the plan begins after them.
        """
        timed = TimedPlan(self._clock, deadline_ms, self.timing)
        normals = Normals(seed, checked_noise(self.about, "plan", noise))
        under_way = checked_delay(delay, self.action_size)
        for done in under_way:
            belief = self.imagine(belief, done)
        beginning = begin(
            shifted(previous if self._warm_start else None, self.horizon, self.action_size),
            lambda count: self._propose(belief, count, normals),
            self._proposals,
            time=timed,
            may_follow=score is None,
        )
        imagined = ImaginedReturn(
            self._imagination,
            belief,
            score,
            normals if self._is_sampled else None,
            None if limits is None else limits.allowed,
        )
        project = projection(
            limits,
            under_way,
            previous,
            action_size=self.action_size,
            has_choices=self.has_choices,
        )
        planner = self._search if score is None else self._free_search
        plan, self.timing = search_from(
            beginning, planner, imagined, project=project, draw=normals, time=timed
        )
        self._lateness.note(plan.origin, deadline_ms)
        return plan

    def act(self, belief: Belief) -> Floats:
        """The policy's most likely action, without a search: [A]"""
        if not self._imagination.has_policy:
            raise ValueError("policy: this agent learned none; call plan instead of act")
        still = np.zeros((1, 1, self.action_size), np.float32)
        action: Floats = self._imagination.follow(belief, still)[0, 0]
        return action

    def warm_up(self) -> None:
        """Make the first calls, which are slow, and measure ``timing``, which a deadline needs."""
        zeros = {n: np.zeros(size, np.float32) for n, size in self.vector_sizes.items()}
        black: Observation = {"image": np.zeros(self.image_shape, np.uint8), **zeros}
        belief = self.observe(self.initial(), self.no_action(), black)
        for _ in range(2):
            self.plan(belief)
        score = ImaginedReturn(self._imagination, belief, None, None, None)
        normals = Normals(0, None)
        self.timing = measure(
            lambda count: score(np.zeros((count, self.horizon, self.action_size), np.float32)),
            lambda count: self._propose(belief, count, normals),
            candidates=self._search.candidates,
            proposals=self._proposals,
            clock=self._clock,
        )

    def goal(self, image: Observation) -> Goal:
        """A score for ``plan(score=...)`` that rises towards a goal image, a state to stay in.

        It can also be called, so a weighted sum of scores is one line::

            goal = runner.goal(picture)
            plan = runner.plan(belief, score=lambda latents, actions:
                               goal(latents, actions) - 0.01 * (actions ** 2).sum(-1))
        """
        belief = self.initial()
        for _ in range(ROWS_AT_REST):
            belief, features = self._observed(belief, self.no_action(), image, 0, None)
        return Goal(features)

    def reward(self, latents: Floats, actions: Floats) -> Floats:
        """The score of ``plan``: the learned rewards, discounted, and the last row's value.

        [1, N, L, F], [1, N, L, A] -> [1, N, L]
        """
        return self._imagination.reward(np.asarray(latents, np.float32)[0])[None]

    def _observed(
        self,
        belief: Belief,
        action: NDArray[np.floating],
        image: Observation,
        seed: int,
        noise: Floats | None,
    ) -> tuple[Belief, Floats]:
        """The belief, and its features [F]."""
        seen = checked_row(image, self.fitting, self.vector_sizes)
        done = checked("action", action, (self.action_size,))
        given = checked_noise(self.about, "observe", noise)
        drawn = Normals(seed, given)((self.about["noise"]["observe"],))
        outputs = self._observe({**named(belief), "action": done, **seen, "noise": drawn})
        features = outputs.pop("features")
        return unnamed(outputs), features

    def _propose(self, belief: Belief, count: int, normals: Normals) -> Floats:
        return self._imagination.propose(belief, (count, self.horizon, self.action_size), normals)
