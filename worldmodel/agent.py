"""The agent: it believes, and it plans. Whoever calls it keeps the belief and the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.inputs import Observation, as_numbers, as_observed, as_under_way
from worldmodel.machine import compute_dtype
from worldmodel.models import WorldModel, refuse_infinite_weights
from worldmodel.models.imagination import Imagination
from worldmodel.planners import (
    Deadline,
    Limits,
    Planner,
    PlannerSettings,
    draw,
    searches,
)
from worldmodel.planning import (
    ImaginedReturn,
    Planning,
    begin,
    generators_of,
    projection,
    propose,
    shifted,
)
from worldmodel.scores import FutureScore, Goal, LatentScore, RewardSum, reward_rows, score_of
from worldmodel.structs import Latent, Plan, Step, at
from worldmodel.timing import PlanTiming, measure

# Rows that a goal's picture is looked at: with more, the belief has come to rest. Not studied.
ROWS_AT_REST = 3


class Agent:
    """One model and one planner, for one robot or a batch of them.

    ::

        belief = agent.initial()
        action, plan = agent.no_action(), None
        while True:
            belief = agent.observe(belief, action, camera())   # what was done, what was seen
            plan = agent.plan(belief, previous=plan)
            action = robot.execute(plan.first)                 # the robot may clip or refuse

    With a batch, ``initial(B)`` and ``no_action(B)`` begin it, and every array has B in front.
    The agent borrows the model: it never trains, freezes or moves it. Between calls it keeps
    quick copies of the weights, and the ``timing`` that plans with a deadline correct.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: PlannerSettings,
        planning: Planning,
        discount_rate: float,
        *,
        search: Planner | None = None,
        imagination: Imagination | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        refuse_infinite_weights(model)
        self.model, self.planner, self.planning = model, planner, planning
        self.discount_rate = discount_rate
        self.timing = PlanTiming()
        self._clock = clock
        dtype = compute_dtype(planning.precision, self.device)
        self._quick = Imagination(model, dtype) if imagination is None else imagination
        self._exact = Imagination(model, None)  # its gradients pass
        guided = model.policy is not None and planning.proposals > 0
        own, free = searches(planner, planning.std_without_policy, guided, model.spec.has_choices)
        self.search: Planner = search or own
        self.free_search: Planner = search or free  # for a score that the policy never learned

    def changed(
        self,
        *,
        planner: PlannerSettings | None = None,
        planning: Planning | None = None,
        search: Planner | None = None,
    ) -> Agent:
        """An agent of the same model with another planner, or another way of planning.

        ``search`` stands in for the planner that the settings would give, as one that counts.
        """
        planner, planning = planner or self.planner, planning or self.planning
        changed = type(self)(self.model, planner, planning, self.discount_rate, search=search)
        changed.timing, changed._clock = self.timing, self._clock
        return changed

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def initial(self, *batch: int) -> Latent:
        belief: Latent = self.model.dynamics.initial(*batch)
        return belief

    def no_action(self, *batch: int) -> NDArray[np.float32]:
        """[A] the action before the first image."""
        return np.zeros((*batch, self.model.spec.action_size), np.float32)

    @torch.no_grad()
    def observe(
        self,
        belief: Latent,
        action: NDArray[np.floating] | Tensor,
        image: Observation,
        seed: int | Sequence[int] = 0,
    ) -> Latent:
        """The belief after ``action`` [A] was *done* and ``image`` [H, W, C] was seen.

        A model that learned from vectors too takes ``{"image": image, "joints": [V], ...}``.
        It follows the mean; with the setting ``planning.sampled`` it is drawn, with ``seed``: a
        batch takes one for each row, or counts up from the one given.
        """
        batch, spec, device = belief.shape, self.model.spec, self.device
        seen, vectors = as_observed(image, spec, batch, device)
        done = as_numbers("action", action, (*batch, spec.action_size), device)
        if not batch:
            belief, seen, done = at(belief, None), seen[None], done[None]
            vectors = {name: vector[None] for name, vector in vectors.items()}
        noise = None
        if self.planning.sampled:
            rows = belief.shape[0]
            noise = torch.empty(rows, self.model.dynamics.noise_size, device=device)
            draw(noise, generators_of(seed, rows, device))
        after = self.model.observe_step(belief, done, seen, noise, vectors)
        return after if batch else at(after, 0)

    @torch.no_grad()
    def plan(
        self,
        belief: Latent,
        previous: Plan | None = None,
        seed: int | Sequence[int] = 0,
        deadline_ms: float | None = None,
        score: FutureScore | LatentScore | None = None,
        limits: Limits | None = None,
        delay: NDArray[np.floating] | Tensor | None = None,
    ) -> Plan:
        """Search for the actions with the best imagined return.

        ``previous``: the last plan, which starts the search one step later. ``seed``: the same
        belief, plan and seed give the same plan; a batch takes one for each row, or counts up from
        the one given. ``deadline_ms``: return the best so far once the time is up, at least the
        previous plan one step later. The clock is asked between slices of candidates, and nothing
        begins that would end too late by what ``warm_up`` measured, and plans since then. Where
        even the first slice would, the plan is what the policy does, if it may propose and no
        ``score`` is given; else it is the previous plan. Its ``origin`` says so. ``score``: plan
        for this instead of the reward, in a like unit if the planner is mppi; the search begins as
        wide as ``planning.std_without_policy``. ``limits``: what every action keeps that is
        imagined in the search, or returned. ``delay`` [D, A]: the actions under way, the next one
        first; the plan begins after them.
        """
        begun, spec, planning = self._now(), self.model.spec, self.planning
        rows, under_way = self._after(belief, delay)
        batch = rows.shape[0]
        generators = generators_of(seed, batch, self.device)
        deadline = Deadline(self._now, begun, deadline_ms, self.timing.slice_s)
        quick = self._imagination()
        search = self.search if score is None else self.free_search
        warm = shifted(previous if planning.warm_start else None, batch, search.horizon, spec)
        beginning = begin(
            warm.to(self.device),
            lambda count: propose(quick, rows, count, search.horizon, generators),
            planning.proposals,
            timing=self.timing,
            deadline=deadline,
            now=self._now,
            may_follow=score is None,
        )
        project = projection(limits, beginning.start, under_way, previous, spec)
        imagined = ImaginedReturn(
            quick,
            self._exact,
            rows,
            RewardSum(self.discount_rate) if score is None else score_of(score),
            generators if planning.sampled else None,
            None if limits is None else limits.allowed,
        )
        found = search.search(
            imagined,
            beginning.start,
            proposals=beginning.proposals,
            generators=generators,
            project=project,
            out_of_time=deadline,
            slice_size=None if deadline_ms is None else self.timing.slice_size,
        )
        if deadline_ms is not None:
            deadline()  # here the last slice ends
            self.timing = self.timing.after(slice_s=deadline.longest, **beginning.took)
        actions, is_allowed = imagined.best_allowed(found, project(beginning.start[:, None]))
        row = slice(None) if belief.shape else 0
        has_searched = deadline_ms is None or not bool(found.value.isnan().any())
        return Plan(
            actions[row],
            found.value[row],
            found.elites[row],
            found.iterations,
            milliseconds=(self._now() - begun) * 1e3,
            is_allowed=is_allowed[row],
            origin="search" if has_searched else beginning.origin,
        )

    def _after(
        self, belief: Latent, delay: NDArray[np.floating] | Tensor | None
    ) -> tuple[Latent, Tensor | None]:
        """The belief [B] once the actions under way [B, D, A] are done, and these."""
        rows = belief if belief.shape else at(belief, None)
        if delay is None:
            return rows, None
        size = self.model.spec.action_size
        under_way = as_under_way(delay, tuple(belief.shape), size, self.device)
        if under_way.shape[1]:
            rows = at(self.model.imagine(rows, under_way, None), (slice(None), -1))
        return rows, under_way

    @torch.no_grad()
    def act(self, belief: Latent) -> NDArray[np.float32]:
        """The policy's action alone, without a search: [A]"""
        if self.model.policy is None:
            raise ValueError("policy: this agent learned none; call plan instead of act")
        actions: NDArray[np.float32] = self.model.policy.act(belief.features, None).cpu().numpy()
        return actions

    @torch.no_grad()
    def warm_up(self) -> None:
        """Make the first calls, which are slow, before a robot waits for one.

        Also measures the ``timing`` that a deadline counts on, which each plan with one corrects.
        """
        self.plan_blank()
        self.plan_blank()
        candidates = getattr(self.planner, "candidates", None)
        if candidates is None:
            return  # a planner without candidates is timed by its own iterations
        quick, rows = self._imagination(), self.initial(1)
        generators = generators_of(0, 1, self.device)
        score = ImaginedReturn(quick, self._exact, rows, RewardSum(self.discount_rate))
        shape = (self.planner.horizon, self.model.spec.action_size)
        self.timing = measure(
            lambda count: score(torch.zeros(1, count, *shape, device=self.device)),
            lambda count: propose(quick, rows, count, shape[0], generators),
            candidates=candidates,
            proposals=self.planning.proposals,
            clock=self._now,
        )

    def plan_blank(self) -> Plan:
        """Observe a black image and plan: what a robot's step takes."""
        spec = self.model.spec
        still = {name: np.zeros(size, np.float32) for name, size in spec.vectors.items()}
        seen = Step(np.zeros(spec.image, np.uint8), vectors=still).observation
        return self.plan(self.observe(self.initial(), self.no_action(), seen))

    @torch.no_grad()
    def goal(self, image: Observation) -> Goal:
        """A score that rises towards a picture [H, W, C] of the goal: ``plan(score=...)``.

        It is minus the mean squared distance from each imagined latent to ``at_rest(image)``: a
        goal is a place to stay. A batch of robots has one picture for all, or one for each.

        A goal is a function too, so a weighted sum of scores is one line::

            goal = agent.goal(picture)
            plan = agent.plan(belief, score=lambda latents, actions:
                              goal(latents, actions) - 0.01 * actions.square().sum(-1))
        """
        return Goal(self.at_rest(image).features)

    def at_rest(self, image: Observation) -> Latent:
        """What is believed where this was seen for some rows and nothing was done."""
        picture = image.get("image", np.zeros(0)) if isinstance(image, Mapping) else image
        batch = tuple(picture.shape[:-3])
        belief = self.initial(*batch)
        for _ in range(ROWS_AT_REST):
            belief = self.observe(belief, self.no_action(*batch), image)
        return belief

    def reward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """What ``plan`` searches for: the learned rewards, discounted, and the last row's value.

        A score like any other, so that scores can be weighed against each other::

            score = lambda latents, actions: agent.reward(latents, actions) + 0.1 * mine(latents)

        [B, N, L, F], [B, N, L, A] -> [B, N, L]
        """
        return reward_rows(latents, self._imagination(), self.discount_rate)

    def _now(self) -> float:
        """Seconds, once all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    def _imagination(self) -> Imagination:
        """The model as it is now; with its own layers where gradients must pass."""
        return self._exact if torch.is_grad_enabled() else self._quick.refresh()
