"""The agent: it believes, and it plans. Whoever calls it keeps the belief and the plan."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import Config
from worldmodel.machine import compute_dtype
from worldmodel.models import WorldModel, refuse_infinite_weights
from worldmodel.models.imagination import Imagination
from worldmodel.pace import Pace, measure
from worldmodel.planners import (
    Allowed,
    Deadline,
    Limits,
    Planner,
    Project,
    beginning_at,
    box,
    draw,
    over_choices,
)
from worldmodel.structs import Latent, Plan, Score, Search, Step, at

Observation = NDArray[np.uint8] | Tensor | Mapping[str, NDArray[Any] | Tensor]
"""An image, or ``{"image": image, "joints": [V], ...}`` for a model that takes vectors too."""
LatentScore = Callable[[Tensor, Tensor], Tensor]
"""A user's reward: latents [B, N, L, F], actions [B, N, L, A] -> [B, N, L], summed over L."""

# So long is a goal's picture looked at: no longer, and the belief has come to rest. Not studied.
ROWS_AT_REST = 3
# What ``within`` tries, and the share of the deadline that the search may take.
POPULATIONS = tuple(size for power in range(4, 13) for size in (2**power, 3 * 2 ** (power - 1)))
HEADROOM = 0.9


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
    The agent borrows the model: it never trains, freezes or moves it.
    """

    def __init__(
        self,
        model: WorldModel,
        config: Config,
        *,
        imagination: Imagination | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        refuse_infinite_weights(model)
        self.model = model
        self.config = config
        self.pace = Pace()  # ``warm_up`` measures it, and plans correct it
        self._clock = clock
        dtype = compute_dtype(config.planning.precision, self.device)
        self._quick = Imagination(model, dtype) if imagination is None else imagination
        self._exact = Imagination(model, None)  # its gradients pass
        planner, planning = config.planner, config.planning
        free = beginning_at(planning.std_without_policy, planner)
        guided = model.policy is not None and planning.proposals > 0
        self.planner: Planner = planner if guided else free
        self.free_planner: Planner = free  # for a score that the policy never learned
        if model.spec.has_choices:
            self.planner = self.free_planner = over_choices(planner)

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
        felt: dict[str, Tensor] = {}
        if isinstance(image, Mapping):
            felt = self._felt(belief, image)
            image = image.get("image", np.zeros(0))
        if isinstance(image, np.ndarray):
            image = np.ascontiguousarray(image)  # a camera's flipped view has negative strides
        image = torch.as_tensor(image, device=self.device)
        action = torch.as_tensor(action, dtype=torch.float32, device=self.device)
        self._check("image", image, (*belief.shape, *self.model.spec.image), torch.uint8)
        self._check("action", action, (*belief.shape, self.model.spec.action_size), torch.float32)
        if not torch.isfinite(action).all():
            raise ValueError(f"action: expected finite numbers, got {action.tolist()}")
        rows = belief if belief.shape else at(belief, None)
        action = action.reshape(*rows.shape, -1)
        image = image.reshape(*rows.shape, *self.model.spec.image)
        noise = None
        if self.config.planning.sampled:
            shape = (*rows.shape, self.model.dynamics.noise_size)
            noise = draw(torch.empty(shape, device=self.device), self._generators(seed, shape[0]))
        felt = {name: vector.reshape(*rows.shape, -1) for name, vector in felt.items()}
        seen = self.model.observe_step(rows, action, image, noise, felt)
        return seen if belief.shape else at(seen, 0)

    @torch.no_grad()
    def plan(
        self,
        belief: Latent,
        previous: Plan | None = None,
        seed: int | Sequence[int] = 0,
        deadline_ms: float | None = None,
        score: LatentScore | None = None,
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
        begun = self._now()
        rows = belief if belief.shape else at(belief, None)
        batch = rows.shape[0]
        generators = self._generators(seed, batch)
        under_way = None if delay is None else self._under_way(delay, belief)
        if under_way is not None and under_way.shape[1]:
            rows = at(self.model.imagine(rows, under_way, None), (slice(None), -1))
        deadline = Deadline(self._now, begun, deadline_ms, self.pace.slice_s)
        model = self._imagination()
        start = self._start(previous, batch)
        in_haste = not deadline.leaves(self.pace.proposing_s + self.pace.slice_s)
        count = self._proposals(deadline, in_haste)
        asked = self._now()
        proposals = self._propose(model, rows, count, generators)
        took: dict[str, float | None] = {"proposing_s": self._now() - asked}
        if in_haste:
            took = {"proposing_s": None, "following_s": took["proposing_s"] if count else None}
        origin: Literal["search", "policy", "previous"] = "previous"
        # asked once more: what is drawn may have taken longer than it was to
        in_haste = in_haste or not deadline.leaves(self.pace.slice_s)
        if in_haste and proposals is not None and score is None:
            start = torch.where(proposals[:, 0].isfinite(), proposals[:, 0], start)
            origin = "policy"
        project: Project = box
        if limits is not None:
            if self.model.spec.has_choices and limits.bounds_numbers:
                raise ValueError(
                    "limits: an action of this agent is a choice, which has no low, high or"
                    " max_change; only allowed= can hold"
                )
            project = limits.project(start, self._last(limits, under_way, previous))
        allowed = None if limits is None else limits.allowed
        planner = self.planner if score is None else self.free_planner
        found = planner.search(
            self._score(model, rows, score, generators, allowed),
            start,
            proposals=proposals,
            generators=generators,
            project=project,
            out_of_time=deadline,
            slice_size=None if deadline_ms is None else self.pace.slice_size,
        )
        if deadline_ms is not None:
            deadline()  # here the last slice ends
            self.pace = self.pace.after(slice_s=deadline.longest, **took)
        actions = found.actions
        is_allowed = torch.ones(batch, dtype=torch.bool, device=self.device)
        if allowed is not None:
            standing = project(start[:, None])
            actions, is_allowed = self._keep(model, rows, found, standing, allowed)
        row = slice(None) if belief.shape else 0
        has_searched = deadline_ms is None or not bool(found.value.isnan().any())
        return Plan(
            actions[row],
            found.value[row],
            found.elites[row],
            found.iterations,
            milliseconds=(self._now() - begun) * 1e3,
            is_allowed=is_allowed[row],
            origin="search" if has_searched else origin,
        )

    @torch.no_grad()
    def warm_up(self) -> None:
        """Make the first calls, which are slow, before a robot waits for one.

        Also measures the ``pace`` that a deadline counts on, which each plan with one corrects.
        """
        self._time_plan()
        self._time_plan()
        rows, horizon = self.initial(1), self.planner.horizon
        generators, model = self._generators(0, 1), self._imagination()
        score = self._score(model, rows, None, generators)
        shape = (horizon, self.model.spec.action_size)
        self.pace = measure(
            lambda count: score(torch.zeros(1, count, *shape, device=self.device)),
            lambda count: self._propose(model, rows, count, generators),
            candidates=self.config.planner.candidates,
            proposals=self.config.planning.proposals,
            clock=self._now,
        )

    def within(self, deadline_ms: float) -> Agent:
        """The same agent with as many candidates as one plan can search in that time, here, now.

        It measures, so ask for it on the machine that will plan, as busy as that will be. Horizon
        and iterations stay, as do the shares of elites and proposals.
        """
        goal_ms = HEADROOM * deadline_ms
        fits = None
        for candidates in POPULATIONS:
            agent = self._sized(candidates)
            took_ms = agent._median_plan()
            if took_ms > goal_ms:
                break
            fits = agent
        if fits is None:
            raise ValueError(
                f"within: {POPULATIONS[0]} candidates over {self.planner.horizon} rows take"
                f" {took_ms:.1f} ms here, more than {goal_ms:g} of {deadline_ms:g} ms; ask for more"
                " time, or for a smaller planner.horizon or planner.iterations"
            )
        fits.warm_up()
        return fits

    @torch.no_grad()
    def goal(self, image: Observation) -> LatentScore:
        """A score that rises towards a picture [H, W, C] of the goal: ``plan(score=...)``.

        It is minus the mean squared distance from each imagined latent to ``at_rest(image)``: a
        goal is a place to stay. A batch of robots has one picture for all, or one for each.

        Scores are functions, so a weighted sum is one too::

            goal = agent.goal(picture)
            plan = agent.plan(belief, score=lambda latents, actions:
                              goal(latents, actions) - 0.01 * actions.square().sum(-1))
        """
        there = self.at_rest(image).features[..., None, None, :]  # [..., N, L, F]

        def score(latents: Tensor, actions: Tensor) -> Tensor:
            return -(latents - there).square().mean(-1)

        return score

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
        return self._reward(self._imagination(), latents)

    def _reward(self, heads: Imagination, latents: Tensor) -> Tensor:
        discount = self.config.discount_rate * heads.discount(latents)
        reached = torch.cat([torch.ones_like(discount[..., :1]), discount[..., :-1]], -1)
        rewards: Tensor = reached.cumprod(-1) * heads.reward(latents)
        worth = discount.prod(-1) * heads.slow_value(latents[..., -1, :])
        return torch.cat([rewards[..., :-1], rewards[..., -1:] + worth[..., None]], -1)

    @torch.no_grad()
    def act(self, belief: Latent) -> NDArray[np.float32]:
        """The policy's action alone, without a search: [A]"""
        if self.model.policy is None:
            raise ValueError("policy: this agent learned none; call plan instead of act")
        actions: NDArray[np.float32] = self.model.policy.act(belief.features, None).cpu().numpy()
        return actions

    def _now(self) -> float:
        """Seconds, once all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    def _generators(self, seed: int | Sequence[int], batch: int) -> list[torch.Generator]:
        seeds = range(seed, seed + batch) if isinstance(seed, int) else seed
        return [torch.Generator(self.device).manual_seed(number) for number in seeds]

    def _sized(self, candidates: int) -> Agent:
        planner, planning = self.config.planner, self.config.planning
        share = candidates / planner.candidates
        elites = max(1, round(share * planner.elites))
        proposals = min(candidates - 1, round(share * planning.proposals))
        config = dataclasses.replace(
            self.config,
            planner=dataclasses.replace(planner, candidates=candidates, elites=elites),
            planning=dataclasses.replace(planning, proposals=proposals),
        )
        return Agent(self.model, config, clock=self._clock)

    def _time_plan(self) -> float:
        """In milliseconds, from an image to the plan."""
        image = np.zeros(self.model.spec.image, np.uint8)
        sizes = self.model.spec.vectors
        still = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
        seen = Step(image, vectors=still).observation
        belief = self.observe(self.initial(), self.no_action(), seen)
        return self.plan(belief).milliseconds

    def _median_plan(self) -> float:
        self._time_plan()
        return statistics.median(self._time_plan() for _ in range(5))

    def _under_way(self, delay: NDArray[np.floating] | Tensor, belief: Latent) -> Tensor:
        """[B, D, A]"""
        actions = torch.as_tensor(delay, dtype=torch.float32, device=self.device)
        batch, size = belief.shape, self.model.spec.action_size
        is_shaped = actions.ndim == len(batch) + 2 and actions.shape[-1] == size
        if not is_shaped or actions.shape[:-2] != batch:
            expected = ", ".join(map(str, (*batch, "any", size)))
            raise ValueError(f"delay: expected [{expected}], got {list(actions.shape)}")
        if not torch.isfinite(actions).all():
            raise ValueError(f"delay: expected finite numbers, got {actions.tolist()}")
        return actions if batch else actions[None]

    def _last(
        self, limits: Limits, under_way: Tensor | None, previous: Plan | None
    ) -> Tensor | None:
        """The action before the plan's first: [A] or [B, A], None where nobody knows it."""
        if under_way is not None and under_way.shape[1]:
            return under_way[:, -1]
        if limits.last is not None:
            return torch.as_tensor(limits.last, dtype=torch.float32, device=self.device)
        return None if previous is None else previous.actions[..., 0, :]

    def _keep(
        self, model: Imagination, belief: Latent, found: Search, start: Tensor, allowed: Allowed
    ) -> tuple[Tensor, Tensor]:
        """The answer, or where it is not allowed the best elite, or ``start`` [B, 1, L, A].

        The mean of candidates that pass an obstacle on either side runs into it.
        """
        choices = torch.cat([found.actions[:, None], found.elites[:, :1], start], 1)
        features = model.imagine(belief, choices, None).features
        kept = self._allowed(allowed, features, choices)  # [B, 3]
        first = kept.int().argmax(1)
        return choices[torch.arange(len(choices), device=first.device), first], kept.any(1)

    def _allowed(self, allowed: Allowed, features: Tensor, actions: Tensor) -> Tensor:
        """[B, N]"""
        kept = allowed(features.float(), actions)
        self._check("limits: allowed", kept, tuple(actions.shape[:3]), torch.bool)
        return kept.all(-1)

    def _start(self, previous: Plan | None, batch: int) -> Tensor:
        """The last plan, one step later; the horizon's new end is still. [B, L, A]"""
        shape = (batch, self.planner.horizon, self.model.spec.action_size)
        start = torch.zeros(shape, device=self.device)
        if previous is not None and self.config.planning.warm_start:
            actions = previous.actions.reshape(batch, -1, self.model.spec.action_size)
            ahead = actions[:, 1 : self.planner.horizon + 1]
            start[:, : ahead.shape[1]] = ahead
        return start

    def _proposals(self, deadline: Deadline, in_haste: bool) -> int:
        """How many there is time for: all, the policy's mean alone, or none."""
        count = self.config.planning.proposals
        if not in_haste:
            return count
        return min(1, count) if deadline.leaves(self.pace.following_s) else 0

    def _propose(
        self, model: Imagination, belief: Latent, count: int, generators: list[torch.Generator]
    ) -> Tensor | None:
        """So many action sequences that the policy would take, the first its mean: [B, M, L, A]"""
        if model.policy is None or count == 0:
            return None
        shape = (len(generators), self.planner.horizon, count, self.model.spec.action_size)
        noise = draw(torch.empty(shape, device=self.device), generators)
        noise[:, :, 0] = 0.0
        return model.follow(belief, noise.transpose(1, 2))

    def _score(
        self,
        model: Imagination,
        belief: Latent,
        score: LatentScore | None,
        generators: list[torch.Generator],
        allowed: Allowed | None = None,
    ) -> Score:
        def imagined_return(actions: Tensor) -> Tensor:
            """[B, N, L, A] -> [B, N]"""
            noise = None
            if self.config.planning.sampled:
                shape = (*actions.shape[:3], self.model.dynamics.noise_size)
                noise = draw(torch.empty(shape, device=self.device), generators)
            imagination = self._exact if torch.is_grad_enabled() else model
            features = imagination.imagine(belief, actions, noise).features
            if score is None:
                per_row = self._reward(imagination, features)
            else:
                per_row = score(features.float(), actions)
            if per_row.shape != actions.shape[:3]:
                raise ValueError(
                    f"score: expected [B, N, L] = {list(actions.shape[:3])},"
                    f" got {list(per_row.shape)}"
                )
            returns = per_row.sum(-1)
            if allowed is not None:
                kept = self._allowed(allowed, features, actions)
                returns = returns.masked_fill(~kept, -torch.inf)
            return returns

        return imagined_return

    def _imagination(self) -> Imagination:
        """The model as it is now; with its own layers where gradients must pass."""
        return self._exact if torch.is_grad_enabled() else self._quick.refresh()

    def _felt(self, belief: Latent, seen: Mapping[str, NDArray[Any] | Tensor]) -> dict[str, Tensor]:
        """The vectors that stand beside an image: name -> [..., V]"""
        sizes = self.model.spec.vectors
        if seen.keys() != {"image", *sizes}:
            expected, got = ", ".join(["image", *sizes]), ", ".join(seen)
            raise ValueError(f"image: expected {expected}; got {got}")
        felt = {}
        for name, size in sizes.items():
            vector = torch.as_tensor(seen[name], dtype=torch.float32, device=self.device)
            self._check(name, vector, (*belief.shape, size), torch.float32)
            if not torch.isfinite(vector).all():
                raise ValueError(f"{name}: expected finite numbers, got {vector.tolist()}")
            felt[name] = vector
        return felt

    def _check(self, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name}: expected {str(dtype).removeprefix('torch.')} {list(shape)},"
                f" got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )
