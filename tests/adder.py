"""A world that adds the action to the level of its image, and a model that knows it."""

import dataclasses
import types

import numpy as np
import torch

from tests.conftest import Answer
from worldmodel import assembly
from worldmodel.agent import Agent
from worldmodel.analysis import observe
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.models.latents import Point, Remembered
from worldmodel.models.roll import given, roll
from worldmodel.replay import cut
from worldmodel.structs import Episode, Spec

HEIGHT, WIDTH = 2, 3
GREY = np.full((HEIGHT, WIDTH, 3), 0.5)


class Adding(torch.nn.Module):
    """The dynamics of a world in which the action is added to the level that fills the image."""

    noise_size = 1

    def initial(self, *batch: int) -> Remembered:
        zero = torch.zeros(*batch, 1)
        return Remembered(zero, Point(zero))

    def remember(self, latent, action):
        return Remembered(latent.deter, Point(latent.stoch.z + action))

    def imagine(self, context, noise):
        return context


class Adder(torch.nn.Module):
    """A perfect model of it. ``deter`` sums the levels of all images; the reward is the level."""

    policy = None
    vectors = None
    ensemble = None
    encoder = None

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.spec = Spec((HEIGHT, WIDTH, channels), 1, frames=channels // 3)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.dynamics = Adding()
        self.posterior = types.SimpleNamespace(acting=self)  # it reads no later images
        self.reward = Answer(lambda features: features[..., 1])
        self.discount = Answer(lambda features: torch.ones_like(features[..., 0]))
        self.slow_value = Answer(lambda features: torch.zeros_like(features[..., 0]))
        self.pixels = types.SimpleNamespace(mean=torch.full(self.spec.image, 0.5))

    def require_decoder(self) -> None:
        """It draws images."""

    def observe_step(self, latent, action, image, noise=None, vectors=None):
        level = image[..., 0, 0, -1:].float()
        return Remembered(latent.deter + level, Point(level))

    def imagine(self, latent, actions, noise):
        return roll(self.dynamics, latent, given(actions), actions.shape[-2], noise)[1]

    def decode(self, latent):
        return self.paint(latent.features[..., 1])

    def paint(self, level):
        whole = level[..., None, None, None].expand(*level.shape, *self.spec.image)
        return whole.round().clamp(0, 255).byte()


class Rememberer(Adder):
    """Decodes the sum of the levels of all images seen."""

    def decode(self, latent):
        return self.paint(latent.features[..., 0])


def agent_of(model, **settings) -> Agent:
    exact = {"task": "toy", "planning": {"precision": "float32"}}
    return assembly.agent_of(read(Config(), exact | settings), model)


def adding(actions, start: int = 0, channels: int = 3) -> Episode:
    """An episode of the adder's world; the reset's action is zero."""
    action = np.array([0, *actions], np.float32)
    level = start + action.cumsum()
    rows = len(level)
    shape = (rows, HEIGHT, WIDTH, channels)
    return Episode(
        image=np.broadcast_to(level[:, None, None, None], shape).astype(np.uint8),
        action=action[:, None],
        reward=level.astype(np.float32),
        discount=np.ones(rows, np.float32),
        env_steps=np.ones(rows, np.int64),
    )


STAIRS = adding([51] * 5)  # levels of 0, 0.2, 0.4, 0.6, 0.8, 1 of the full scale


# ------------------------------------------------------------------------------------ vectors


class Knowing(Adder):
    """A perfect model with a vector: ``height`` is 1000 times the level."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec((HEIGHT, WIDTH, 3), 1, vectors={"height": 1})
        self.vectors = types.SimpleNamespace(
            decode=lambda features: {"height": 1000 * features[..., 1:]}
        )


def with_vector(episode: Episode) -> Episode:
    return dataclasses.replace(episode, vectors={"height": 1000 * episode.reward[:, None]})


# ------------------------------------------------------------------- plans: promised and obtained


def beliefs_of(agent, episodes):
    whole = cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))
    return observe(agent, whole, whole.reward.shape[1])
