"""Sections on latent states: how they are arranged, and what they know of the true state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import (
    FEWEST_EPISODES,
    Map,
    NoTruthError,
    Probe,
    States,
    angles,
    map_latents,
    probe,
    true_states,
)
from worldmodel.config import Config
from worldmodel.report.figures import plot_map, plot_probes
from worldmodel.report.folder import Folder
from worldmodel.report.page import Section, Table
from worldmodel.structs import Episode, Latent

COLOURS = 3  # how many quantities colour the map

PROBES_HEADER = """\
# a linear probe from the belief to each true quantity, over {episodes} held-out episodes
# r_squared: over all rows, each read by a probe that was not fitted on its episode
# lowest, highest: r_squared of single episodes
"""


def show_latents(
    folder: Folder,
    agent: Agent,
    config: Config | None,
    episodes: Sequence[Episode],
    beliefs: Latent,
    seeds: Sequence[int] | None,
    *,
    trust: bool,
) -> tuple[list[Probe], list[Section]]:
    every = beliefs.features.double().cpu().numpy()
    features = [every[number, : len(episode)] for number, episode in enumerate(episodes)]
    states: list[States] = []
    try:
        if seeds is None:
            raise NoTruthError("the run does not say from which seeds its episodes started")
        if config is None:
            raise NoTruthError("nothing says which task they are of")
        states = true_states(config, episodes, seeds, trust=trust)
    except NoTruthError as error:
        folder.notes.append(f"no true states to compare the latent states with: {error}")
    mapped = _show_map(folder, features, episodes, states)
    if states and len(episodes) < FEWEST_EPISODES:
        folder.notes.append(
            f"no probe: it takes {FEWEST_EPISODES} held-out episodes to judge one fairly, got"
            f" {len(episodes)}; evaluate more (loop.evaluate_episodes)"
        )
        return [], [mapped]
    probes = probe(features, states) if states else []
    return probes, [mapped, *_show_probes(folder, probes, len(episodes))]


def _show_map(
    folder: Folder,
    features: Sequence[NDArray[np.float64]],
    episodes: Sequence[Episode],
    states: Sequence[States],
) -> Section:
    latents = map_latents(features)
    colours = map_colours(latents, episodes, states)
    return Section(
        "How its latent states are arranged",
        f"Each point is the belief at one row of {len(episodes)} held-out episodes; similar beliefs"
        " lie close together.",
        "A quantity whose colour changes smoothly along the shape is encoded in the belief; an"
        " angle should form a ring.",
        folder.figure("map.png", lambda: plot_map(latents, colours)),
        f"The places are principal components: two of them hold {latents.shares[:2].sum():.0%} of"
        f" the variance, three {latents.shares.sum():.0%}.",
    )


def map_colours(
    latents: Map, episodes: Sequence[Episode], states: Sequence[States]
) -> dict[str, NDArray[np.float64]]:
    """The quantities [M] that colour a map, by name; ``states``: none if they are not known."""
    return {
        **(_true_colours(states) if states else {}),
        "time (row of the episode)": latents.row.astype(np.float64),
        "reward": np.concatenate([e.reward for e in episodes]).astype(np.float64),
    }


def _show_probes(folder: Folder, probes: Sequence[Probe], episodes: int) -> list[Section]:
    """A section on the probes; none if no true quantity varies or is known."""
    if not probes:
        return []
    scores = [(each.name, each.r_squared, *each.spread) for each in probes]
    header = PROBES_HEADER.format(episodes=episodes)
    folder.table("probe.csv", header, ["quantity", "r_squared", "lowest", "highest"], scores)
    rows = [
        (name, *("-" if np.isnan(number) else f"{number:.3f}" for number in numbers))
        for name, *numbers in scores
    ]
    return [
        Section(
            "What it knows of the true state",
            "The simulator's own numbers, read from the belief by a linear probe.",
            "R² is 1 if every row is right, and 0 if the probe is no better than the mean.",
            [
                *folder.figure("probe.png", lambda: plot_probes(probes)),
                Table(["true quantity", "R²", "lowest episode", "highest"], rows),
            ],
            "Each episode is judged by a probe that was fitted on the others. A single image does"
            " not show a velocity: only a belief that remembers can hold it.",
        )
    ]


def _true_colours(states: Sequence[States]) -> dict[str, NDArray[np.float64]]:
    """The quantities that colour the map: angles first, then velocities, then any other."""
    every = {name: np.concatenate([s[name] for s in states]) for name in states[0]}
    circles = angles(every)
    order = [*circles, *(n for n in every if "velocity" in n and "angular" in n)]
    order += [name for name in every if "velocity" in name] + list(every)
    chosen = list(dict.fromkeys(order))[: COLOURS - 2]
    return {name: circles[name] if name in circles else every[name] for name in chosen}
