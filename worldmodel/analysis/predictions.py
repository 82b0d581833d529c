"""Predictions of the model on episodes that it was not trained on, as arrays.

A window is a number of successive rows of an episode. The model sees the images of its first rows,
the *context*, and no row before them. Then it imagines, given only the actions that were taken::

    windows = cut(episodes, spread(episodes, rows=50, most=200), rows=50)
    prediction = predict(agent, windows, context=5)
    prediction.truth, prediction.model       # [B, T, H, W, 3] bytes each

Pictures (``predict``) show the mean of the model's distributions: one sharp future, the same every
time. Errors are measured on the mean of several sampled futures (``expect``), because the mean has
the smallest expected squared error; where the model is uncertain this mean is blurred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.agent import Agent
from worldmodel.structs import Batch, Episode, Latent, Spec, at, flatten, stack

CONTEXT = 5  # images that the model sees
FUTURES = 32  # sampled for each window whose error is measured
AHEAD = 45  # rows that it imagines after the context; together they are PlaNet's windows of 50
LEADS = (1, 6, 12)  # rows from the last image seen to an event, in windows before events
DECODED = 512  # images decoded at once; at 128x128 this needs about a gigabyte

TruthAndModel = tuple[NDArray[np.float32], NDArray[np.float32]]
"""True numbers [B, T, V], and the model's."""


@dataclass(frozen=True)
class Prediction:
    """Windows, and the model's prediction of them: first it sees images, then it imagines."""

    truth: NDArray[np.uint8]  # [B, T, H, W, 3] the newest image of each row
    model: NDArray[np.uint8]  # [B, T, H, W, 3] reconstructed in the context, imagined after it
    reward: NDArray[np.float32]  # [B, T]
    model_reward: NDArray[np.float32]  # [B, T]
    valid: NDArray[np.bool_]  # [B, T] False after the end of the episode
    context: int  # rows seen
    # by name; empty if the model learned from images alone
    vectors: Mapping[str, TruthAndModel] = field(default_factory=dict)


def check_fit(agent: Agent, episodes: Sequence[Episode]) -> None:
    """Raise if the episodes' images, actions or vectors do not fit the agent's model."""
    if not episodes:
        raise ValueError("episodes: expected at least one, got none")
    for number, episode in enumerate(episodes):
        for name, expected in (
            ("image", agent.model.spec.image),
            ("action", (agent.model.spec.action_size,)),
        ):
            got = getattr(episode, name).shape[1:]
            if tuple(got) != tuple(expected):
                raise ValueError(
                    f"{name}: the agent's model takes {list(expected)}, got {list(got)} in"
                    f" episode {number}"
                )
        for name, size in agent.model.spec.vectors.items():
            vector = episode.vectors.get(name)
            if vector is None or vector.shape[1:] != (size,):
                got = "none" if vector is None else str(list(vector.shape[1:]))
                raise ValueError(
                    f"{name}: the agent's model takes this vector [{size}] with the image, got"
                    f" {got} in episode {number}"
                )


def spread(episodes: Sequence[Episode], rows: int, most: int) -> list[tuple[int, int]]:
    """The first rows of windows, spread evenly over all episodes: (episode, row).

    Every episode has an equal share of the ``most`` windows. An episode that is shorter than a
    window has one window, which holds the whole episode.
    """
    share = max(1, most // len(episodes))
    begins = []
    for number, episode in enumerate(episodes):
        last = max(0, len(episode) - rows)
        for row in np.linspace(0, last, min(share, last + 1)).round().astype(int).tolist():
            begins.append((number, row))
    return begins


def events(
    episodes: Sequence[Episode], rows: int, most: int, context: int, spec: Spec
) -> list[tuple[int, int]]:
    """The first rows of windows that imagine an event: (episode, row).

    An event is a row whose image differs most from the image before it; the next event of an
    episode is half a window away at least. Every episode has an equal share of the ``most``
    windows. They see the ``context`` just before the event, or somewhat earlier.
    """
    share = max(1, most // len(episodes))
    begins = []
    for number, episode in enumerate(episodes):
        change = image_change(episode, spec)
        last = max(0, len(episode) - rows)
        own: dict[int, None] = {}  # as a set, in the order of the events
        while len(own) < share and (change > 0).any():
            event = int(change.argmax())
            for before in LEADS:
                own[min(last, max(0, event - context - before))] = None
            change[max(0, event - rows // 2) : event + rows // 2] = 0
        begins += [(number, row) for row in list(own)[:share]]
    return begins


def image_change(episode: Episode, spec: Spec) -> NDArray[np.float64]:
    """[T] the mean difference of each image from the one before it, in [0, 1]"""
    images = spec.shown(episode.image).astype(np.int16)
    change = np.abs(np.diff(images, axis=0)).mean((1, 2, 3)) / 255
    return np.concatenate([[0.0], change])


@torch.inference_mode()
def observe(agent: Agent, windows: Batch, rows: int) -> Latent:
    """The belief after the image of each of the first ``rows``: [B, rows]"""
    belief = agent.initial(len(windows.reward))
    beliefs = []
    for t in range(rows):
        action, image = windows.action[:, t].to(agent.device), windows.image[:, t].to(agent.device)
        vectors = {name: vector[:, t].to(agent.device) for name, vector in windows.vectors.items()}
        belief = agent.model.observe_step(belief, action, image, None, vectors)
        beliefs.append(belief)
    return stack(beliefs, 1)


@torch.inference_mode()
def predict(agent: Agent, windows: Batch, context: int = CONTEXT) -> Prediction:
    """Predict windows: see ``context`` rows, imagine the others."""
    beliefs = observe(agent, windows, context)  # [B, context]
    actions = windows.action[:, context:].to(agent.device)  # [B, L, A]
    last = at(beliefs, (slice(None), -1))
    imagined = agent.model.imagine(last, actions, None)  # [B, L]
    features = torch.cat([beliefs.features, imagined.features], 1)  # [B, T, F]
    drawn = np.concatenate([decode(agent, beliefs), decode(agent, imagined)], 1)  # [B, T, H, W, C]
    return Prediction(
        truth=agent.model.spec.shown(windows.image.numpy()),
        model=agent.model.spec.shown(drawn),
        reward=windows.reward.numpy(),
        model_reward=predict_reward(agent, features),
        valid=windows.valid.numpy(),
        context=context,
        vectors=_vectors(agent, windows, features),
    )


def _vectors(agent: Agent, windows: Batch, features: Tensor) -> dict[str, TruthAndModel]:
    """name -> [B, T, V] twice"""
    if agent.model.vectors is None:
        return {}
    decoded = agent.model.vectors.decode(features)
    return {name: (windows.vectors[name].numpy(), v.cpu().numpy()) for name, v in decoded.items()}


@torch.inference_mode()
def expect(
    agent: Agent, windows: Batch, context: int, futures: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of imagined futures: images [B, L, H, W, 3] in [0, 1], rewards [B, L]."""
    last = at(observe(agent, windows, context), (slice(None), -1))
    actions = windows.action[:, context:].to(agent.device)  # [B, L, A]
    generator = torch.Generator().manual_seed(seed)
    levels: NDArray[np.int32] | None = None
    reward = np.zeros(actions.shape[:2], np.float32)
    for _ in range(futures):
        shape = (*actions.shape[:2], agent.model.dynamics.noise_size)
        noise = torch.randn(shape, generator=generator).to(agent.device)
        imagined = agent.model.imagine(last, actions, noise)
        drawn = agent.model.spec.shown(decode(agent, imagined)).astype(np.int32)
        levels = drawn if levels is None else levels + drawn
        reward += predict_reward(agent, imagined.features) / futures
    assert levels is not None
    return levels.astype(np.float32) / np.float32(255 * futures), reward


@torch.inference_mode()
def decode(agent: Agent, latents: Latent) -> NDArray[np.uint8]:
    """[..., F] -> [..., H, W, C]"""
    rows, model = flatten(latents), agent.model
    begins = range(0, rows.shape[0], DECODED)
    images = torch.cat([model.decode(at(rows, slice(i, i + DECODED))).cpu() for i in begins])
    return images.reshape(*latents.shape, *images.shape[1:]).numpy()


@torch.inference_mode()
def predict_reward(agent: Agent, features: Tensor) -> NDArray[np.float32]:
    """[..., F] -> [...]"""
    reward: NDArray[np.float32] = agent.model.reward(features).float().cpu().numpy()
    return reward
