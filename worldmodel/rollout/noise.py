"""Exploration: how collected actions differ from those of an evaluation, from seeds alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.config import DrawsSettings, ExplorationSettings
from worldmodel.envs import Environment
from worldmodel.structs import Latent, Plan

Disturb = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SWELL_MEMORY = 0.98  # correlation of the log size from row to row: it lasts some fifty rows


class Exploration(Protocol):
    """What a collector does with the decisions of an agent."""

    def chosen(
        self, agent: Agent, belief: Latent, plan: Plan, seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        """The actions [B, A] of several robots before any noise; a seed for each robot's row."""

    def disturbance(self, env: Environment, seed: int) -> Disturb:
        """The noise of one episode: a function from chosen to disturbed actions."""


def exploration_of(settings: ExplorationSettings, env_steps: int) -> Noise | Draws:
    """How to explore after so many simulator steps."""
    if isinstance(settings, DrawsSettings):
        return Draws()
    size, last = settings.size, settings.last_size
    if last is not None:
        size += (last - size) * min(1.0, env_steps / settings.shrinks_over)
    return Noise(size, settings.memory, settings.swell)


@dataclass(frozen=True)
class Draws:
    """The policy's own draws, by the seed of each row, without noise."""

    def chosen(
        self, agent: Agent, belief: Latent, plan: Plan, seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        return agent.act(belief, seeds)

    def disturbance(self, env: Environment, seed: int) -> Disturb:
        return lambda drawn: drawn


@dataclass(frozen=True)
class Noise:
    """Autocorrelated Gaussian noise, whose size changes slowly during an episode.

    ``memory`` is the correlation from one row to the next. The standard deviation is ``size``
    times e to a second autocorrelated number, far slower, with a standard deviation of ``swell``.
    Periods of strong noise reach states that small noise around a settled policy never reaches; the
    quiet periods after them show the returns from these states.
    """

    size: float
    memory: float
    swell: float = 0.0

    @classmethod
    def none(cls) -> Noise:
        return cls(size=0.0, memory=0.0)

    def chosen(
        self, agent: Agent, belief: Latent, plan: Plan, seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        return plan.first

    def disturbance(self, env: Environment, seed: int) -> Disturb:
        """The noise of one episode: a function from planned to disturbed actions."""
        sizes = self._sizes(seed)
        if env.action_count is not None:
            return _redraw_choice(seed, sizes)
        wander = wandering(env.action_low.shape, seed, self.memory)
        return lambda planned: planned + next(sizes) * next(wander)

    def _sizes(self, seed: int) -> Iterator[float]:
        random = np.random.default_rng([seed, 2])
        wander = random.standard_normal()
        while True:
            yield self.size * float(np.exp(self.swell * wander))
            fresh = random.standard_normal()
            wander = SWELL_MEMORY * wander + np.sqrt(1 - SWELL_MEMORY**2) * fresh


def wandering(shape: tuple[int, ...], seed: int, memory: float) -> Iterator[NDArray[np.float32]]:
    """Autocorrelated Gaussian noise that begins at zero and grows to unit variance."""
    random = np.random.default_rng(seed)
    old, new = np.float32(memory), np.float32(np.sqrt(1 - memory**2))
    wander = np.zeros(shape, np.float32)
    while True:
        wander = old * wander + new * random.standard_normal(shape).astype(np.float32)
        yield wander


def _redraw_choice(seed: int, shares: Iterator[float]) -> Disturb:
    """Replace a share of the choices by uniformly drawn ones."""
    random = np.random.default_rng(seed)

    def redraw(planned: NDArray[np.float32]) -> NDArray[np.float32]:
        drawn = random.random(planned.shape, np.float32)  # the largest entry is the choice
        return drawn if random.random() < next(shares) else planned

    return redraw
