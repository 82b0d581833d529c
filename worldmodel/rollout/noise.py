"""Exploration noise on planned actions, drawn from the seed of an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs import Environment

Disturb = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SWELL_MEMORY = 0.98  # of the noise's size: it stays large, or small, for some fifty rows


@dataclass(frozen=True)
class Noise:
    """Gaussian noise that wanders, and whose size swells and ebbs.

    ``memory`` of it survives from one row to the next. Its size is ``size`` times e to a number
    that wanders too, far more slowly, with a standard deviation of ``swell``: stretches of strong
    noise reach what small noise around a settled policy never does, and quiet ones show what
    comes of it.
    """

    size: float
    memory: float
    swell: float = 0.0

    @classmethod
    def none(cls) -> Noise:
        return cls(size=0.0, memory=0.0)

    def disturbance(self, env: Environment, seed: int) -> Disturb:
        """For one episode."""
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
    """Gaussian noise of unit variance that begins at nothing."""
    random = np.random.default_rng(seed)
    kept, drawn = np.float32(memory), np.float32(np.sqrt(1 - memory**2))
    wander = np.zeros(shape, np.float32)
    while True:
        wander = kept * wander + drawn * random.standard_normal(shape).astype(np.float32)
        yield wander


def _redraw_choice(seed: int, shares: Iterator[float]) -> Disturb:
    """Draw a share of the choices again, each choice as likely as any other."""
    random = np.random.default_rng(seed)

    def redraw(planned: NDArray[np.float32]) -> NDArray[np.float32]:
        anew = random.random(planned.shape, np.float32)  # of a choice the largest entry counts
        return anew if random.random() < next(shares) else planned

    return redraw
