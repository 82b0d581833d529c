"""The agent: ``observe`` updates a belief, ``plan`` searches for actions; the caller keeps both."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.checks import require
from worldmodel.images import ImageFit
from worldmodel.inputs import Observation, as_done, as_observed, leading
from worldmodel.machine import compute_dtype
from worldmodel.models import WorldModel, refuse_infinite_weights
from worldmodel.models.imagination import Imagination
from worldmodel.origin import Origin, agents_words
from worldmodel.planners import Limits, Planner, PlannerSettings, draw, no_planner, searches
from worldmodel.planning import (
    ImaginedReturn,
    Planning,
    after_delay,
    begin,
    follow_policy,
    generators_of,
    measure_search,
    projection,
    propose,
    require_imagination,
    search_from,
    shifted,
)
from worldmodel.scores import (
    FutureScore,
    Goal,
    LatentScore,
    Pixel,
    refuse_outside,
    reward_rows,
    reward_without,
    score_of,
)
from worldmodel.structs import Latent, Plan, Step, at, situation
from worldmodel.timing import Lateness, PlanTiming, TimedPlan

# For how many rows a goal image is observed until the belief no longer changes. Not studied.
ROWS_AT_REST = 3


class Agent:
    """One model and one planner, for one robot or a batch of them.

    ::

        belief = agent.initial()
        action, plan = agent.no_action(), None
        while True:
            belief = agent.observe(belief, action, camera())   # the action done, the new image
            plan = agent.plan(belief, previous=plan)
            action = robot.execute(plan.first)                 # the robot may clip or refuse

    For a batch of robots, begin with ``initial(B)`` and ``no_action(B)``; every array then has B in
    front. The agent borrows the model: it never trains, freezes or moves it. Between calls it keeps
    fast copies of the weights, and ``timing``, which each plan with a deadline corrects.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: PlannerSettings | None,
        planning: Planning,
        discount_rate: float,
        *,
        search: Planner | None = None,
        imagination: Imagination | None = None,
        clock: Callable[[], float] = time.perf_counter,
        origin: Origin | None = None,
    ) -> None:
        refuse_infinite_weights(model)
        _require_acting(model)
        if planner is None:
            require(
                model.policy is not None,
                "planner: none lets the policy act, and this model has none; plan with one, such as"
                " agent.changed(planner=CEM())",
            )
        else:
            require_imagination(model, planner)
        self.model, self.discount_rate = model, discount_rate
        self.planner, self.planning = planner, planning
        self.origin = origin  # of the weights; None if they were never in a file
        self.timing, self._clock, self._lateness = PlanTiming(), clock, Lateness()
        self.aim: Goal | None = None  # what plans are for that are given no score
        self._fast = imagination  # made at the first plan
        self._exact = Imagination(model, None)  # the model's own layers, which pass gradients
        has_proposals = model.policy is not None and planning.proposals > 0
        std, has_choices = planning.std_without_policy, model.spec.has_choices
        own, wide = searches(planner, std, has_proposals, has_choices)
        # None: the policy acts. free_search is for a score that the policy has not learned for.
        self.search: Planner | None = search or own
        self.free_search: Planner | None = search or wide

    def changed(
        self,
        *,
        planner: PlannerSettings | None = None,
        planning: Planning | None = None,
        search: Planner | None = None,
    ) -> Agent:
        """An agent of the same model with another planner, or other settings of planning.

        ``search`` replaces the planner that the settings would give, for example by one that counts
        its candidates.
        """
        planner, planning = planner or self.planner, planning or self.planning
        changed = type(self)(self.model, planner, planning, self.discount_rate, search=search)
        changed.origin, changed.timing, changed._clock = self.origin, self.timing, self._clock
        changed.aim = self.aim
        return changed

    def towards(self, image: Observation) -> Agent:
        """The same agent, whose plans lead to this goal image unless they are given a score.

        So a caller that knows no scores can use it, as a ``Controller`` does::

            agent = worldmodel.load(run).towards(picture)
        """
        aimed = copy.copy(self)
        aimed.aim = self.goal(image)
        return aimed

    def __repr__(self) -> str:
        spec = self.model.spec
        planner = None if self.planner is None else dataclasses.asdict(self.planner)
        said = agents_words(
            self.origin, spec.image, spec.vectors, spec.action_size, spec.has_choices, planner
        )
        return f"Agent({said})"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of the images to observe."""
        return tuple(self.model.spec.image)

    @property
    def fitting(self) -> ImageFit:
        """How images of cameras become the image that the model takes."""
        return self.model.spec.fitting

    @property
    def vector_sizes(self) -> dict[str, int]:
        """The sizes of the vectors to observe, by name."""
        return dict(self.model.spec.vectors)

    @property
    def action_size(self) -> int:
        """The numbers of an action, or its choices."""
        return self.model.spec.action_size

    @property
    def horizon(self) -> int:
        """The rows of a plan; without a planner some may be left out for a deadline."""
        return self.planning.policy_rows if self.planner is None else self.planner.horizon

    @property
    def has_choices(self) -> bool:
        """Whether an action is one of ``action_size`` choices, instead of numbers for motors."""
        return self.model.spec.has_choices

    @property
    def can_mark(self) -> bool:
        """Whether the model predicts in image space, so that pixels can be marked and followed."""
        return hasattr(self.model.dynamics, "mark")

    def initial(self, *batch: int) -> Latent:
        """The belief before the first image, of one robot or of a batch."""
        return self.model.dynamics.initial(*batch)  # type: ignore[no-any-return]

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
        """The belief after ``action`` [A] was *done* and ``image`` [H, W, C] was observed.

        An image of another shape is fitted as in training, or refused if it has another aspect.
        A model that learned from vectors too takes ``{"image": image, "joints": [V], ...}``, and
        one of several cameras their images by name: ``{"front": image, "wrist": image, ...}``.
        The new belief is the posterior's mean; with the setting ``planning.sampled`` it is drawn by
        ``seed``: a batch takes one seed for each robot, or counts up from the one given.
        """
        batch, device = belief.shape, self.device
        images, vectors = as_observed(image, self.model.spec, batch, device)
        done = as_done(action, self.action_size, batch, device)
        beliefs = belief if batch else at(belief, None)
        noise = None
        if self.planning.sampled:
            noise = torch.empty(len(images), self.model.dynamics.noise_size, device=device)
            draw(noise, generators_of(seed, len(images), device))
        posterior = self.model.observe_step(beliefs, done, images, noise, vectors)
        return posterior if batch else at(posterior, 0)

    @torch.no_grad()
    def imagine(self, belief: Latent, action: NDArray[np.floating] | Tensor) -> Latent:
        """The belief after ``action`` [A] was done and no image came, as when a camera fails.

        Observe as soon as an image comes: errors of imagined rows add up.
        """
        batch = belief.shape
        done = as_done(action, self.action_size, batch, self.device)
        beliefs = belief if batch else at(belief, None)
        ahead = self.model.imagine(beliefs, done[:, None], None)
        return at(ahead, (slice(None) if batch else 0, 0))

    def mark(self, belief: Latent, pixels: Sequence[Pixel]) -> Latent:
        """The same belief with marks on pixels (row, column), which ``observe`` carries on.

        For models that predict in image space. Marks replace earlier ones, and are the same for
        every robot of a batch. ``observe`` moves them by what the model predicts, and does not
        look for them in the new image: mark again when you know better. Plan with them by
        ``agent.plan(belief, score=DesignatedPixels([(row, column)]))``.
        """
        dynamics: Any = self.model.dynamics
        if not self.can_mark:
            raise ValueError(
                f"pixel: {type(dynamics).__name__} has no picture to mark a pixel in; train a model"
                " that predicts images: worldmodel train foresight"
            )
        height, width, _ = self.model.spec.image
        refuse_outside("pixel", pixels, height, width)
        return dynamics.mark(belief, pixels)  # type: ignore[no-any-return]

    def is_finite(self, belief: Latent) -> bool:
        """Whether a belief holds finite numbers only, as broken weights do not give."""
        return bool(belief.features.isfinite().all())

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

        ``previous``: the last plan, which the search starts from, shifted by one row. ``seed``: the
        same belief, plan and seed give the same plan; a batch takes one seed for each robot, or
        counts up from the one given.

        ``deadline_ms``: return the best plan found when the time is up. The clock is asked between
        slices of candidates. Nothing begins that would end too late, judged by the times that
        ``warm_up`` and later plans measured. If there is no time even for the first slice, the plan
        is the policy's own actions, provided that it may propose and no ``score`` is given; else it
        is the previous plan, shifted by one row. Its ``origin`` says which.

        ``score``: plan for this instead of the reward; the search begins with the standard
        deviation ``planning.std_without_policy``. With mppi the score should have a unit like the
        reward's. ``limits``: limits of every action that the search imagines or returns. ``delay``
        [D, A]: actions already under way, the next one first; the plan begins after them.

        Without a score an agent of ``towards(image)`` plans to that image. With ``planning.goal``
        there must be one or the other.

        Without a planner the plan is the policy's most likely actions, ``planning.policy_rows`` of
        them if there is time; its value is NaN, because nothing was scored.
        """
        timed, planning = TimedPlan(self._now, deadline_ms, self.timing), self.planning
        score = self.aim if score is None else score
        if score is None and planning.goal is not None:
            raise ValueError(
                "plan: this agent plans to a goal image (planning.goal), and was given none; make"
                " it an agent of one, agent = agent.towards(picture), or give each plan its own,"
                " agent.plan(belief, score=agent.goal(picture))"
            )
        beliefs, under_way = after_delay(self.model, belief, delay)
        batch, spec = beliefs.shape[0], self.model.spec
        generators = generators_of(seed, batch, self.device)
        imagination = self._imagination()
        planner = self.search if score is None else self.free_search
        if planner is None:
            if score is not None:
                raise no_planner("a score")
            rows = planning.policy_rows
            start = torch.zeros(batch, rows, spec.action_size, device=self.device)
            plan = follow_policy(
                imagination,
                beliefs,
                rows,
                project=projection(limits, start, under_way, previous, spec),
                allowed=None if limits is None else limits.allowed,
                time=timed,
            )
            return plan if belief.shape else plan.of_robot(0)
        warm = shifted(previous if planning.warm_start else None, batch, planner.horizon, spec)
        beginning = begin(
            warm.to(self.device),
            lambda count: propose(imagination, beliefs, count, planner.horizon, generators),
            planning.proposals,
            time=timed,
            may_follow=score is None,
        )
        imagined = ImaginedReturn(
            imagination,
            self._exact,
            beliefs,
            self._own_score() if score is None else score_of(score),
            generators if planning.sampled else None,
            None if limits is None else limits.allowed,
        )
        project = projection(limits, beginning.start, under_way, previous, spec)
        plan, self.timing = search_from(
            beginning, planner, imagined, project=project, generators=generators, time=timed
        )
        self._lateness.note(plan.origin, deadline_ms)
        return plan if belief.shape else plan.of_robot(0)

    @torch.no_grad()
    def act(self, belief: Latent, seed: int | Sequence[int] | None = None) -> NDArray[np.float32]:
        """The policy's action without a search: [A]

        It is the most likely one; with a ``seed`` it is drawn, as exploration needs. A batch takes
        one seed for each robot, or counts up from the one given.
        """
        policy, features = self.model.policy, situation(belief)
        if policy is None:
            raise ValueError("policy: this agent learned none; call plan instead of act")
        noise = None
        if seed is not None:
            robots = features.shape[:-1].numel()
            noise = torch.empty(robots, self.action_size, device=self.device)
            draw(noise, generators_of(seed, robots, self.device))
            noise = noise.reshape(*features.shape[:-1], self.action_size)
        return policy.act(features, noise).cpu().numpy()

    @torch.no_grad()
    def warm_up(self) -> None:
        """Make the first calls, which are slow, before a robot waits for them.

        It also measures ``timing``, which a deadline depends on and each plan with one corrects.
        """
        self.plan_blank()
        self.plan_blank()
        candidates = getattr(self.planner, "candidates", None)
        if candidates is None:
            return  # a planner without candidates measures its own iterations, and a policy nothing
        self.timing = measure_search(
            ImaginedReturn(self._imagination(), self._exact, self.initial(1), self._own_score()),
            horizon=self.horizon,
            candidates=candidates,
            proposals=self.planning.proposals,
            clock=self._now,
        )

    def plan_blank(self) -> Plan:
        """Observe a black image and plan: all the work of one step of a robot."""
        zeros = {name: np.zeros(size, np.float32) for name, size in self.vector_sizes.items()}
        black = Step(np.zeros(self.image_shape, np.uint8), vectors=zeros).observation
        score = None if self.planning.goal is None else self.goal(black)
        return self.plan(self.observe(self.initial(), self.no_action(), black), score=score)

    @torch.no_grad()
    def goal(self, image: Observation) -> Goal:
        """A score for ``plan(score=...)`` that rises towards a goal image [H, W, C].

        It is minus the mean squared distance from each imagined latent to ``at_rest(image)``, so a
        goal is a state to stay in; with ``planning.goal`` actions have a cost too. A batch of
        robots has one goal image for all, or one for each.

        A goal can also be called, so a weighted sum of scores is one line::

            goal = agent.goal(picture)
            plan = agent.plan(belief, score=lambda latents, actions:
                              goal(latents, actions) - 0.01 * actions.square().sum(-1))
        """
        goal = self.planning.goal
        action_cost = 0.0 if goal is None else goal.action_cost
        return Goal(self.at_rest(image).features, action_cost)

    def at_rest(self, image: Observation) -> Latent:
        """The belief after this image was observed for some rows and no action was done."""
        batch = leading(image, self.model.spec)
        belief = self.initial(*batch)
        for _ in range(ROWS_AT_REST):
            belief = self.observe(belief, self.no_action(*batch), image)
        return belief

    def reward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """The score of ``plan``: the learned rewards, discounted, and the last row's value.

        It can be called like any other score, so that scores can be summed::

            score = lambda latents, actions: agent.reward(latents, actions) + 0.1 * mine(latents)

        [B, N, L, F], [B, N, L, A] -> [B, N, L]
        """
        return reward_rows(latents, self._imagination(), self.discount_rate)

    def _own_score(self) -> FutureScore:
        """The score of plans that are given none."""
        return reward_without(self.planning.pessimism, self.discount_rate)

    def _now(self) -> float:
        """The clock in seconds, after all pending work of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    def _imagination(self) -> Imagination:
        """The model with its present weights: its own layers if gradients must pass, else fast."""
        if torch.is_grad_enabled():
            return self._exact
        if self._fast is None:
            dtype = compute_dtype(self.planning.precision, self.device)
            self._fast = Imagination(self.model, dtype)
        return self._fast.refresh()


def _require_acting(model: WorldModel) -> None:
    """Raise if a model's posterior needs images that come only after the action."""
    require(
        model.posterior.acting is not None,
        "agent: this model's posterior reads later images, which do not exist yet when an agent"
        " acts, and it has no filter to act with; train it with"
        " model.posterior.acting_filter: true and objective.acting.weight: 1.0",
    )
