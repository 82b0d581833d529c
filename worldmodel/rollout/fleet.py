"""Environments of one kind, made when they are first wanted."""

from __future__ import annotations

from collections.abc import Callable

from worldmodel.envs import Environment


class Fleet:
    """One environment to collect in, and as many more as are played in step."""

    def __init__(self, make: Callable[[], Environment], most: int) -> None:
        self._make = make
        self._most = most
        self._made: list[Environment] = []

    @classmethod
    def of(cls, env: Environment) -> Fleet:
        """Of an object that nobody can make again."""
        return cls(lambda: env, most=1)

    @property
    def first(self) -> Environment:
        return self.several(1)[0]

    def several(self, count: int) -> list[Environment]:
        """So many, or as many as there may be."""
        count = min(count, self._most)
        while len(self._made) < count:
            self._made.append(self._make())
        return self._made[:count]

    def close(self) -> None:
        while self._made:
            self._made.pop().close()
