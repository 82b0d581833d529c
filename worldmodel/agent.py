"""The agent: it believes, and it plans. Whoever calls it keeps the belief and the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import Config
from worldmodel.models import WorldModel
from worldmodel.planners import Planner, box, build, draw
from worldmodel.structs import Latent, Plan, Score

LatentScore = Callable[[Tensor, Tensor], Tensor]
"""A user's reward: latents [B, N, L, F], actions [B, N, L, A] -> [B, N, L], summed over L."""


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

    def __init__(self, model: WorldModel, config: Config) -> None:
        self.model = model
        self.config = config
        self.planner: Planner = build(config.planner)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def initial(self, *batch: int) -> Latent:
        return self.model.dynamics.initial(*batch)

    def no_action(self, *batch: int) -> NDArray[np.float32]:
        """[A] the action before the first image."""
        return np.zeros((*batch, self.model.action_size), np.float32)

    @torch.no_grad()
    def observe(
        self,
        belief: Latent,
        action: NDArray[np.floating] | Tensor,
        image: NDArray[np.uint8] | Tensor,
    ) -> Latent:
        """The belief after ``action`` [A] was *done* and ``image`` [H, W, C] was seen."""
        if isinstance(image, np.ndarray):
            image = np.ascontiguousarray(image)  # a camera's flipped view has negative strides
        image = torch.as_tensor(image, device=self.device)
        action = torch.as_tensor(action, dtype=torch.float32, device=self.device)
        self._check("image", image, (*belief.shape, *self.model.image_shape), torch.uint8)
        self._check("action", action, (*belief.shape, self.model.action_size), torch.float32)
        if not torch.isfinite(action).all():
            raise ValueError(f"action: expected finite numbers, got {action.tolist()}")
        rows = belief if belief.shape else belief.map(lambda part: part[None])
        action = action.reshape(*rows.shape, -1)
        image = image.reshape(*rows.shape, *self.model.image_shape)
        seen = self.model.observe_step(rows, action, image)
        return seen if belief.shape else seen.map(lambda part: part[0])

    @torch.no_grad()
    def plan(
        self,
        belief: Latent,
        previous: Plan | None = None,
        seed: int | Sequence[int] = 0,
        deadline_ms: float | None = None,
        score: LatentScore | None = None,
    ) -> Plan:
        """Search for the actions with the best imagined return.

        ``previous``: the last plan, which starts the search one step later. ``seed``: the same
        belief, plan and seed give the same plan; a batch takes one for each row, or counts up from
        the one given. ``deadline_ms``: between two iterations, return
        the best so far once the time is up. ``score``: plan for this instead of the reward.
        """
        begun = time.perf_counter()
        rows = belief if belief.shape else belief.map(lambda part: part[None])
        batch = rows.shape[0]
        seeds = range(seed, seed + batch) if isinstance(seed, int) else seed
        generators = [torch.Generator(self.device).manual_seed(number) for number in seeds]
        start = self._start(previous, batch)
        proposals = self._propose(rows, previous, generators)
        found = self.planner.search(
            self._score(rows, score, generators),
            start,
            proposals=proposals,
            generators=generators,
            project=box,
            out_of_time=_timer(begun, deadline_ms),
        )
        milliseconds = (time.perf_counter() - begun) * 1e3
        if belief.shape:
            return Plan(found.actions, found.value, found.elites, found.iterations, milliseconds)
        return Plan(
            found.actions[0], found.value[0], found.elites[0], found.iterations, milliseconds
        )

    @torch.no_grad()
    def act(self, belief: Latent) -> NDArray[np.float32]:
        """The policy's action alone, without a search: [A]"""
        if self.model.policy is None:
            raise ValueError("policy: this agent learned none; call plan instead of act")
        actions: NDArray[np.float32] = self.model.policy.act(belief.features, None).cpu().numpy()
        return actions

    def _start(self, previous: Plan | None, batch: int) -> Tensor:
        """The last plan, one step later; the horizon's new end is still. [B, L, A]"""
        shape = (batch, self.planner.horizon, self.model.action_size)
        start = torch.zeros(shape, device=self.device)
        if previous is not None and self.config.planner.warm_start:
            actions = previous.actions.reshape(batch, -1, self.model.action_size)
            ahead = actions[:, 1 : self.planner.horizon + 1]
            start[:, : ahead.shape[1]] = ahead
        return start

    def _propose(
        self, belief: Latent, previous: Plan | None, generators: list[torch.Generator]
    ) -> Tensor | None:
        """Action sequences that the policy would take: [B, M, L, A]"""
        policy, count = self.model.policy, self.config.planner.proposals
        if policy is None or count == 0:
            return None
        latent = belief.map(lambda part: part[:, None].expand(-1, count, -1))
        size = self.model.action_size
        shape = (len(generators), self.planner.horizon, count, size)
        noise = draw(torch.empty(shape, device=self.device), generators)
        noise[:, :, 0] = 0.0  # one proposal is the policy's mean
        actions = []
        for step in range(self.planner.horizon):
            action = policy.act(latent.features, noise[:, step])
            actions.append(action)
            latent = self.model.dynamics.imagine_step(latent, action, None)
        return torch.stack(actions, 2)

    def _score(
        self, belief: Latent, score: LatentScore | None, generators: list[torch.Generator]
    ) -> Score:
        model, config = self.model, self.config

        def imagined_return(actions: Tensor) -> Tensor:
            """[B, N, L, A] -> [B, N]"""
            count = actions.shape[1]
            noise = None
            if config.planner.sampled:
                shape = (*actions.shape[:3], model.dynamics.stoch_size)
                noise = draw(torch.empty(shape, device=self.device), generators)
            begin = belief.map(lambda part: part[:, None].expand(-1, count, -1))
            features = model.imagine(begin, actions, noise).features  # [B, N, L, F]
            if score is not None:
                per_row: Tensor = score(features, actions)
                return per_row.sum(-1)
            discount = config.discount_rate * model.discount(features)
            reached = torch.cat([torch.ones_like(discount[..., :1]), discount[..., :-1]], -1)
            returns: Tensor = (reached.cumprod(-1) * model.reward(features)).sum(-1)
            worth: Tensor = model.slow_value(features[..., -1, :])
            worth = discount.prod(-1) * worth
            return returns + worth

        return imagined_return

    def _check(self, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name}: expected {str(dtype).removeprefix('torch.')} {list(shape)},"
                f" got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )


def _timer(begun: float, deadline_ms: float | None) -> Callable[[], bool]:
    if deadline_ms is None:
        return lambda: False
    return lambda: (time.perf_counter() - begun) * 1e3 >= deadline_ms
