"""The searches of an exported planner in numpy, for one robot: CEM, MPPI, iCEM, and over choices.

They are written a second time because a robot has no torch. They follow ``worldmodel.planners``
step by step: with the same random numbers both give the same plan, which a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]
"""actions [N, L, A] -> returns [N]"""
Project = Callable[[Floats], Floats]
"""Moves candidates inside their limits: [N, L, A] -> the same shape."""
Draw = Callable[[tuple[int, ...]], Floats]
"""Standard normal numbers of a shape."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    actions: Floats  # [L, A]
    value: float  # the mean return of the elites; NaN: nothing was scored
    elites: Floats  # [K, L, A] best first
    iterations: int  # only those that scored every candidate


@dataclass(frozen=True)
class Task:
    """One search: what it maximises, where it begins, and how long it may take."""

    score: Score
    start: Floats  # [L, A]
    proposals: Floats  # [M, L, A] of the policy; M may be 0
    draw: Draw
    project: Project
    out_of_time: Callable[[], bool]
    slice_size: int | None  # candidates between two looks at the clock; None: all of them

    def evaluate(self, candidates: Floats, known: Floats | None = None) -> Floats:
        """Score candidates while there is time: [N, L, A] -> [M], of the first M of them.

        ``known``: the returns of the first candidates, which are not scored again. A return that is
        NaN or infinite becomes -inf.
        """
        returns = [np.zeros(0, np.float32) if known is None else known]
        for part in self._in_time(candidates[len(returns[0]) :]):
            scored = np.asarray(self.score(part), np.float32)
            returns.append(np.where(np.isfinite(scored), scored, np.float32(-np.inf)))
        return np.concatenate(returns)

    def _in_time(self, candidates: Floats) -> Iterator[Floats]:
        size = self.slice_size or max(1, len(candidates))
        for begin in range(0, len(candidates), size):
            if begin and self.out_of_time():
                return
            yield candidates[begin : begin + size]

    def unscored(self) -> tuple[Floats, Floats]:
        """Elites [1, L, A] and returns [1], NaN, of a search that has scored nothing."""
        return self.project(self.start[None]), np.full(1, np.nan, np.float32)


class Search(Protocol):
    """A planner of numpy."""

    @property
    def horizon(self) -> int: ...

    @property
    def candidates(self) -> int: ...

    @property
    def iterations(self) -> int: ...

    def search(self, task: Task) -> Found: ...


def search_of(settings: Mapping[str, Any]) -> Search:
    """The search that an export describes."""
    kinds: dict[str, Callable[..., Search]] = {
        "cem": CEM,
        "mppi": MPPI,
        "icem": ICEM,
        "categorical": Categorical,
    }
    return kinds[settings["kind"]](**{n: value for n, value in settings.items() if n != "kind"})


@dataclass(frozen=True)
class CEM:
    """A Gaussian for each action, refitted to the best candidates."""

    horizon: int
    iterations: int
    candidates: int
    elites: int
    initial_std: float

    def search(self, task: Task) -> Found:
        return _gaussian_search(self, task)

    def refit(self, elites: Floats, returns: Floats) -> tuple[Floats, Floats]:
        return elites.mean(0), elites.std(0)


@dataclass(frozen=True)
class MPPI:
    """A Gaussian for each action, refitted to elites weighted by their returns."""

    horizon: int
    iterations: int
    candidates: int
    elites: int
    initial_std: float
    min_std: float
    temperature: float

    def search(self, task: Task) -> Found:
        return _gaussian_search(self, task)

    def refit(self, elites: Floats, returns: Floats) -> tuple[Floats, Floats]:
        """[K, L, A], [K], best first -> [L, A], [L, A]"""
        weights = np.exp(np.float32(self.temperature) * (returns - returns[0]))
        weights = (weights / weights.sum())[:, None, None]
        mean = (weights * elites).sum(0)
        std = np.sqrt((weights * np.square(elites - mean)).sum(0))
        return mean, np.clip(std, np.float32(self.min_std), np.float32(self.initial_std))


def _gaussian_search(planner: CEM | MPPI, task: Task) -> Found:
    proposed = len(task.proposals)
    mean, std = task.start, np.full_like(task.start, planner.initial_std)  # [L, A]
    drawn = (planner.candidates - proposed, *mean.shape)
    known = np.zeros(0, np.float32)  # the proposals' returns, once scored
    elites, returns = task.unscored()
    done = 0
    for _ in range(planner.iterations):
        if task.out_of_time():
            break
        fresh = task.draw(drawn) * std + mean
        candidates = task.project(np.concatenate([task.proposals, fresh]))  # [N, L, A]
        scored = task.evaluate(candidates, known)
        known = scored[:proposed]
        elites, returns = _best_of(candidates, scored, planner.elites)
        if np.isfinite(returns[0]):
            mean, std = planner.refit(elites, returns)
        done += len(scored) == len(candidates)
    return Found(task.project(mean[None])[0], float(returns.mean()), elites, done)


@dataclass(frozen=True)
class ICEM:
    """CEM for few candidates, with noise that is correlated in time."""

    horizon: int
    iterations: int
    candidates: int
    elites: int
    initial_std: float
    noise_exponent: float
    elites_kept: float
    decay: float
    momentum: float

    def search(self, task: Task) -> Found:
        given = task.proposals
        kept = round(self.elites_kept * self.elites)
        colour = _colouring(self.horizon, self.noise_exponent)  # [L, L]
        mean, std = task.start, np.full_like(task.start, self.initial_std)  # [L, A]
        elites, returns = task.unscored()
        momentum = np.float32(self.momentum)
        done = 0
        for iteration in range(self.iterations):
            if task.out_of_time():
                break
            if 0 < iteration == self.iterations - 1:
                given = np.concatenate([given, mean[None]])
            size = max(int(self.candidates * self.decay**iteration), 2 * self.elites)
            count = max(0, min(size, self.candidates) - len(given))
            fresh = (colour @ task.draw((count, *mean.shape))) * std + mean
            candidates = task.project(np.concatenate([given, fresh]))
            scored = task.evaluate(candidates)
            elites, returns = _best_of(candidates, scored, self.elites)
            if np.isfinite(returns[0]):
                fitted, spread = elites.mean(0), elites.std(0)
                mean = fitted + momentum * (mean - fitted)
                std = spread + momentum * (std - spread)
            given = elites[:kept]
            done += len(scored) == len(candidates)
        actions = elites[0] if np.isfinite(returns[0]) else task.project(mean[None])[0]
        return Found(actions, float(returns.mean()), elites, done)


@dataclass(frozen=True)
class Categorical:
    """CEM over choices: a categorical distribution for each row, refitted to the elites."""

    horizon: int
    iterations: int
    candidates: int
    elites: int
    floor: float

    def search(self, task: Task) -> Found:
        start = _largest(task.start)
        kept = _largest(np.concatenate([start[None], task.proposals]))  # the best so far is first
        uniform = np.float32(1 / start.shape[-1])
        probabilities = np.full_like(start, uniform)  # [L, A]
        elites, returns = task.unscored()
        done = 0
        for _ in range(self.iterations):
            if task.out_of_time():
                break
            noise = task.draw((self.candidates, *start.shape))
            pool = _largest(probabilities / -_log_normal_cdf(noise))
            pool[: len(kept)] = kept
            candidates = task.project(pool)
            scored = task.evaluate(candidates)
            elites, returns = _best_of(candidates, scored, self.elites)
            if np.isfinite(returns[0]):
                fitted = elites.mean(0)
                probabilities = fitted + np.float32(self.floor) * (uniform - fitted)
                kept[0] = elites[0]
            done += len(scored) == len(candidates)
        return Found(task.project(kept[:1])[0], float(returns.mean()), elites, done)


def _best_of(candidates: Floats, returns: Floats, elites: int) -> tuple[Floats, Floats]:
    """The elites [K, L, A] and their returns [K], best first.

    If only the first M of N candidates have returns [M], the best K * M / N of them are taken. If
    fewer than K are taken, or fewer have a finite return, they are repeated to fill K places.
    """
    share = min(math.ceil(elites * len(returns) / len(candidates)), len(returns))
    index = np.argsort(-returns, kind="stable")[:share]
    finite = int(np.isfinite(returns[index]).sum()) or share
    index = index[np.arange(elites) % finite]
    return candidates[index], returns[index]


def _colouring(length: int, exponent: float) -> Floats:
    """A matrix [L, L] that turns unit white noise into unit noise of power 1 / f ** exponent."""
    amplitude = np.maximum(np.fft.rfftfreq(length), 1 / length) ** (-exponent / 2)
    colour = np.fft.irfft(amplitude * np.fft.rfft(np.eye(length)), n=length)
    colour /= np.sqrt(np.square(colour).sum(1, keepdims=True))
    return colour.astype(np.float32)


def _largest(weights: NDArray[np.floating]) -> Floats:
    """The choice with the largest entry: [..., A] -> one-hot [..., A]"""
    one_hot: Floats = np.eye(weights.shape[-1], dtype=np.float32)[weights.argmax(-1)]
    return one_hot


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _log_normal_cdf(x: Floats) -> NDArray[np.float64]:
    """log Phi(x), for the numbers that a normal distribution gives."""
    tail = 0.5 * _erfc(np.abs(x) * math.sqrt(0.5))  # Phi(-|x|)
    logarithm: NDArray[np.float64] = np.where(x < 0, np.log(tail), np.log1p(-tail))
    return logarithm
