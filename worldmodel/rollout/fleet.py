"""Environments of one kind, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable

from worldmodel.envs import Environment


class Fleet:
    """Environments to play in at once: at most ``most``."""

    def __init__(self, make: Callable[[], Environment], most: int) -> None:
        self._make = make
        self._most = most
        self._made: list[Environment] = []

    @classmethod
    def of(cls, env: Environment) -> Fleet:
        """A fleet of this one object, which cannot be made again."""
        return cls(lambda: env, most=1)

    @property
    def first(self) -> Environment:
        return self.several(1)[0]

    def several(self, count: int) -> list[Environment]:
        """Return ``count`` environments, or ``most`` if that is less."""
        count = min(count, self._most)
        while len(self._made) < count:
            self._made.append(self._make())
        return self._made[:count]

    def close(self) -> None:
        while self._made:
            self._made.pop().close()
