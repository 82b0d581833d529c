"""The held-out episodes of an opened run, by number."""

from __future__ import annotations

from collections.abc import Iterator

from worldmodel.opened_run.measurements import Measurements
from worldmodel.opened_run.records import HeldoutEpisode


class Heldout:
    """The episodes of the last evaluation: ``heldout[0]``, ``len(heldout)``, a loop over them."""

    def __init__(self, measured: Measurements) -> None:
        self._measured = measured

    def __len__(self) -> int:
        return len(self._measured.episodes)

    def __iter__(self) -> Iterator[HeldoutEpisode]:
        return (self[number] for number in self.numbers)

    def __getitem__(self, number: int) -> HeldoutEpisode:
        number = self._measured.number(number)
        episode = self._measured.episodes[number]
        return HeldoutEpisode(
            number,
            images=self._measured.spec.shown(episode.image).copy(),
            actions=episode.action.copy(),
            rewards=episode.reward.copy(),
            discounts=episode.discount.copy(),
            env_steps=episode.env_steps.copy(),
            vectors={name: vector.copy() for name, vector in episode.vectors.items()},
            episode=episode,
        )

    @property
    def numbers(self) -> list[int]:
        return list(self._measured.episodes)

    def __repr__(self) -> str:
        lines = [
            f"  {number}: {len(episode)} rows, return {episode.total_reward:.4g}"
            for number, episode in self._measured.episodes.items()
        ]
        return "\n".join([f"Heldout({len(lines)} episodes)", *lines])
