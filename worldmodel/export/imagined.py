"""Imagination of an exported agent: a graph for one row, called row by row for all candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.export.onnx_graph import Graph
from worldmodel.export.search import Draw, Floats
from worldmodel.limits import Allowed

Belief = dict[str, Floats]
"""The parts of a latent by name; the caller keeps it, so one runner serves many robots."""
LatentScore = Callable[[Any, Any], Any]
"""A user's reward: latents [1, N, L, F], actions [1, N, L, A] -> [1, N, L], summed over L."""


class Imagination:
    """The graphs that a plan needs: the next latent, the policy, and the learned rewards."""

    def __init__(self, graphs: Mapping[str, Graph], noise_size: int) -> None:
        self._graphs = graphs
        self._noise_size = noise_size

    @property
    def has_policy(self) -> bool:
        return "propose" in self._graphs

    def step(
        self, latents: Belief, actions: Floats, noise: Floats | None = None
    ) -> tuple[Belief, Floats]:
        """Imagine one row: latents [N], actions [N, A], noise [N, S] -> latents, features [N, F]"""
        verb = "imagine" if noise is None else "imagine_drawn"
        given = {**named(latents), "action": actions}
        outputs = self._graphs[verb](given if noise is None else {**given, "noise": noise})
        features = outputs.pop("features")
        return unnamed(outputs), features

    def imagine(self, belief: Belief, actions: Floats, draw: Draw | None = None) -> Floats:
        """Imagine from one belief: actions [N, L, A] -> features [N, L, F].

        ``draw`` gives the noise of the latents; None imagines means.
        """
        count, length = actions.shape[:2]
        noise = None if draw is None else draw((count, length, self._noise_size))
        latents, rows = repeated(belief, count), []
        for row in range(length):
            drawn = None if noise is None else np.ascontiguousarray(noise[:, row])
            given = np.ascontiguousarray(actions[:, row])
            latents, features = self.step(latents, given, drawn)
            rows.append(features)
        return np.stack(rows, 1)

    def follow(self, belief: Belief, noise: Floats) -> Floats:
        """The policy's actions, imagined from one belief: noise [M, L, A] -> [M, L, A]"""
        count, length = noise.shape[:2]
        latents, rows = repeated(belief, count), []
        for row in range(length):
            given = {**named(latents), "noise": np.ascontiguousarray(noise[:, row])}
            rows.append(self._graphs["propose"](given)["action"])
            if row < length - 1:
                latents, _ = self.step(latents, rows[-1])
        return np.stack(rows, 1)

    def propose(self, belief: Belief, shape: tuple[int, int, int], draw: Draw) -> Floats:
        """Draw M action sequences from the policy, the first its mean; ``shape``: [M, L, A]."""
        count, length, action_size = shape
        if count == 0 or not self.has_policy:
            return np.zeros((0, length, action_size), np.float32)
        noise = np.array(draw((length, count, action_size)).transpose(1, 0, 2))
        noise[0] = 0.0
        return self.follow(belief, noise)

    def reward(self, features: Floats) -> Floats:
        """Each row's learned reward, discounted; the last row also has its value.

        [N, L, F] -> [N, L]
        """
        return self._graphs["score"]({"features": features})["rows"]


@dataclass(frozen=True)
class ImaginedReturn:
    """The score of a search: actions [N, L, A] -> returns [N]; minus infinity if not allowed."""

    imagination: Imagination
    belief: Belief
    score: LatentScore | None  # None: the learned rewards
    draw: Draw | None
    allowed: Allowed | None

    def __call__(self, actions: Floats) -> Floats:
        features = self.imagination.imagine(self.belief, actions, self.draw)
        if self.score is None:
            rows = self.imagination.reward(features)
        else:
            rows = np.asarray(self.score(features[None], actions[None]))
            if rows.shape != (1, *actions.shape[:2]):
                raise ValueError(
                    f"score: expected [1, N, L] = {[1, *actions.shape[:2]]}, got {list(rows.shape)}"
                )
            rows = rows[0]
        returns: Floats = rows.sum(-1, dtype=np.float32)
        if self.allowed is not None:
            returns[~keeps(self.allowed, features, actions)] = -np.inf
        return returns

    def best_allowed(self, found: Floats, best: Floats, start: Floats) -> tuple[Floats, bool]:
        """The first allowed one of the answer, the best elite and ``start``, each [L, A]."""
        if self.allowed is None:
            return found, True
        choices = np.stack([found, best, start])
        kept = keeps(self.allowed, self.imagination.imagine(self.belief, choices), choices)
        return choices[int(kept.argmax())], bool(kept.any())


def keeps(allowed: Allowed, features: Floats, actions: Floats) -> NDArray[np.bool_]:
    """Whether candidates keep a user's constraint in every row: [N]"""
    kept = np.asarray(allowed(features[None], actions[None]))
    if kept.dtype != bool or kept.shape != (1, *actions.shape[:2]):
        raise ValueError(
            f"limits: allowed: expected bool {[1, *actions.shape[:2]]},"
            f" got {kept.dtype} {list(kept.shape)}"
        )
    return np.asarray(kept[0].all(-1))


def named(belief: Belief) -> Belief:
    """By the names of the graphs' inputs: a part of a belief may be called ``image`` itself."""
    return {f"belief.{name}": part for name, part in belief.items()}


def unnamed(outputs: Mapping[str, Floats]) -> Belief:
    return {name.removeprefix("belief."): part for name, part in outputs.items()}


def repeated(belief: Belief, count: int) -> Belief:
    """[] -> [N]"""
    return {name: np.repeat(part[None], count, 0) for name, part in belief.items()}
