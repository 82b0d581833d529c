"""What a runner makes: plans and goals; and the random numbers that a plan draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from worldmodel.export.search import Floats
from worldmodel.origin import plans_words


@dataclass(frozen=True, repr=False)
class Plan:
    """A plan: the chosen actions, and the elites of the search."""

    actions: Floats  # [L, A]
    value: float  # the elites' mean imagined return; NaN: there was no time for a search
    elites: Floats  # [K, L, A] the best candidates of the last iteration, best first
    iterations: int  # only those that scored every candidate
    milliseconds: float
    is_allowed: bool = True  # False: no candidate that keeps limits.allowed was found
    # where the actions come from; without time for a search: policy, or previous
    origin: str = "search"

    def __repr__(self) -> str:
        said = plans_words(self.origin, self.first, self.value, self.iterations, self.milliseconds)
        return f"Plan({said})"

    @property
    def first(self) -> Floats:
        """[A] the action to execute now."""
        first: Floats = self.actions[0]
        return first

    @property
    def sequence(self) -> Floats:
        """[L, A] all actions, the one to execute now first."""
        return self.actions

    def after(self, rows: int) -> Plan:
        """The same plan so many rows later: without its first actions."""
        return replace(self, actions=self.actions[rows:], elites=self.elites[:, rows:])


@dataclass(frozen=True)
class Goal:
    """A score that is highest at the ``target`` features."""

    target: Floats  # [F]

    def __call__(self, latents: Floats, actions: Floats) -> Floats:
        """[1, N, L, F], [1, N, L, A] -> [1, N, L]"""
        closeness: Floats = -np.square(latents - self.target).mean(-1)
        return closeness


class Normals:
    """Standard normal numbers, one after the other: from a seed, or those that are given."""

    def __init__(self, seed: int, given: Floats | None) -> None:
        self._random, self._given, self._used = np.random.default_rng(seed), given, 0

    def __call__(self, shape: tuple[int, ...]) -> Floats:
        if self._given is None:
            return self._random.standard_normal(shape, np.float32)
        begin, self._used = self._used, self._used + int(np.prod(shape))
        return self._given[begin : self._used].reshape(shape)
