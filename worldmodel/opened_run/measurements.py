"""What is measured on an opened run: the agent and the held-out episodes, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import (
    CONTEXT,
    FEWEST_EPISODES,
    WINDOWS,
    HorizonErrors,
    Map,
    Moment,
    NoTruthError,
    Prediction,
    Probe,
    Source,
    States,
    long_enough,
    look_into,
    map_latents,
    mean_image,
    measure,
    observe,
    predict,
    probe,
    read_source,
    true_states,
)
from worldmodel.checks import ConfigError, require
from worldmodel.config import Config
from worldmodel.replay import cut
from worldmodel.report.compose import WINDOWS_OF_ONE
from worldmodel.report.plan_sections import can_plan
from worldmodel.run_folder import load, read_about, read_run
from worldmodel.structs import Batch, Episode, Latent, Spec, at


class Measurements:
    """Reads a run's folder and measures its agent; nothing is written.

    What needs time or memory happens at the first use: weights, episodes, beliefs, errors, probes.
    """

    def __init__(self, run: Path, given: Config | None, device: str, *, trust: bool) -> None:
        self.run, self.device, self.trust = run, device, trust
        self._given = given  # the settings of a run with parts of the user's own
        self.config = read_run(run, given)

    @cached_property
    def about(self) -> Mapping[str, Any]:
        return read_about(self.run)

    @cached_property
    def spec(self) -> Spec:
        return Spec.described(self.about)

    @cached_property
    def agent(self) -> Agent:
        return load(self.run, self.device, config=self._given)

    @cached_property
    def source(self) -> Source:
        return read_source(self.run)

    @property
    def curves(self) -> Source:
        """The scores and metrics, read anew by each of its verbs; it holds no episodes."""
        return Source(self.run)

    @property
    def episodes(self) -> Mapping[int, Episode]:
        """By number in the last evaluation; at least one."""
        return self.source.heldout

    def episode(self, number: int) -> Episode:
        """ConfigError if there is none with this number; -1 is the last, as in a list."""
        return self.episodes[self.number(number)]

    def number(self, number: int) -> int:
        numbers = list(self.episodes)
        if number in self.episodes:
            return number
        if -len(numbers) <= number < 0:
            return numbers[number]
        known = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        raise ConfigError(f"episode: {self.run} has no held-out episode {number}; known: {known}")

    @cached_property
    def whole(self) -> Batch:
        """[B, T] all held-out episodes, in the order of ``episodes``"""
        episodes = list(self.episodes.values())
        return cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))

    @cached_property
    def beliefs(self) -> Latent:
        """[B, T] of all held-out episodes, in the order of ``episodes``"""
        return observe(self.agent, self.whole, self.whole.reward.shape[1])

    def beliefs_of(self, number: int) -> Latent:
        """[T] of one episode, and beliefs without images after its end"""
        return at(self.beliefs, list(self.episodes).index(number))

    @cached_property
    def features(self) -> list[NDArray[np.float64]]:
        """[T, F] of each episode"""
        every = self.beliefs.features.double().cpu().numpy()
        return [every[n, : len(episode)] for n, episode in enumerate(self.episodes.values())]

    @cached_property
    def mean_image(self) -> NDArray[np.floating]:
        return mean_image(self.agent, list(self.episodes.values()), self.run)

    @property
    def long(self) -> dict[int, Episode]:
        """The episodes with a row to predict after the first images, by number"""
        return {n: each for n, each in self.episodes.items() if len(each) > CONTEXT}

    @cached_property
    def errors(self) -> HorizonErrors:
        """As in the report: over the same windows."""
        try:
            long = long_enough(list(self.episodes.values()), CONTEXT)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return measure(
            self.agent,
            long,
            mean_image(self.agent, long, self.run),
            windows=min(WINDOWS, WINDOWS_OF_ONE * len(long)),
            before_events=True,
        )

    def window(self, number: int, begin: int, seen: int, ahead: int) -> Episode:
        """The rows that are seen and imagined; fewer than ``ahead`` at the episode's end."""
        episode = self.episode(number)
        length = len(episode)
        require(0 <= begin < length, f"begin: expected a row from 0 to {length - 1}, got {begin}")
        most = length - begin - 1
        require(
            1 <= seen <= most,
            f"seen: expected 1 to {most} rows, so that one of the {length - begin} rows from row"
            f" {begin} of episode {self.number(number)} is left to predict; got {seen}",
        )
        require(ahead >= 1, f"ahead: expected at least 1 row to imagine, got {ahead}")
        return episode.cut(begin, seen + ahead)

    def predicted(self, window: Episode, seen: int) -> Prediction:
        return predict(self.agent, cut([window], [(0, 0)], len(window)), seen)

    def window_errors(self, window: Episode, seen: int) -> HorizonErrors:
        ahead = len(window) - seen
        return measure(self.agent, [window], self.mean_image, context=seen, ahead=ahead, windows=1)

    def moment(self, number: int, row: int) -> Moment:
        """The search at one row, with as many rows after it as the planner looks ahead."""
        require(
            can_plan(self.agent),
            "plans: ilqr plans for a score with a cost, and the learned reward has none, a goal"
            " image (planning.goal) earns none, and a policy alone searches nothing; look at a run"
            " with another planner",
        )
        number = self.number(number)
        episode, horizon = self.episodes[number], self.agent.horizon
        last = len(episode) - 1 - horizon
        require(
            last >= 0,
            f"plans: episode {number} has {len(episode)} rows, and a plan of {horizon} rows cannot"
            " be compared with what came; choose a longer episode",
        )
        require(
            0 <= row <= last,
            f"row: expected 0 to {last} in episode {number}, so that the {horizon} rows of a plan"
            f" follow; got {row}",
        )
        return look_into(self.agent, episode, self.beliefs_of(number), row)

    @cached_property
    def states(self) -> list[States]:
        """Of each row of each episode; NoTruthError if they are not known."""
        seeds = self.source.seeds()
        if seeds is None:
            raise NoTruthError("the run does not say from which seeds its episodes started")
        return true_states(self.config, list(self.episodes.values()), seeds, trust=self.trust)

    @cached_property
    def probes(self) -> list[Probe]:
        """At least one; ConfigError if there is none."""
        count = len(self.episodes)
        require(
            count >= FEWEST_EPISODES,
            f"probe: expected at least {FEWEST_EPISODES} held-out episodes, got {count}; evaluate"
            " more (loop.evaluate_episodes)",
        )
        try:
            probes = probe(self.features, self.states)
        except NoTruthError as error:
            raise ConfigError(f"probe: no true states to read: {error}") from error
        require(bool(probes), "probe: no true quantity varies in these episodes")
        return probes

    @cached_property
    def map(self) -> Map:
        return map_latents(self.features)

    @property
    def episode_of_each_row(self) -> NDArray[np.int64]:
        """[M] the number of each row's episode, over whole episodes in their order"""
        numbers = np.array(list(self.episodes), np.int64)
        return np.repeat(numbers, [len(episode) for episode in self.episodes.values()])
