"""Futures from one belief: several by chance, and those that other actions would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.agent import Agent
from worldmodel.analysis.plans import imagine_images
from worldmodel.analysis.predictions import decode, observe, predict_reward
from worldmodel.replay import cut
from worldmodel.structs import Episode, Latent, at, repeat

FUTURES_SAMPLED = 16  # over which the standard deviation of an image is measured
ROWS_OF_ALTERNATIVES = 25
CONSTANTS_SHOWN = 4  # constant actions: those that change the imagined image most


@dataclass(frozen=True)
class Futures:
    """Futures drawn from one belief; all have the actions that were done."""

    row: int  # of the last image seen
    seen: NDArray[np.uint8]  # [H, W, 3]
    truth: NDArray[np.uint8]  # [L, H, W, 3] the images that came
    images: NDArray[np.uint8]  # [N, L, H, W, 3]
    reward: NDArray[np.float32]  # [N, L]

    @property
    def spread(self) -> NDArray[np.float64]:
        """[L, H, W, 3] standard deviation of each pixel over the futures, in [0, 1]"""
        apart: NDArray[np.float64] = self.images.std(0, dtype=np.float64) / 255
        return apart


@dataclass(frozen=True)
class Alternatives:
    """The same belief, other actions: the futures that the model imagines for each."""

    row: int  # of the last image seen
    seen: NDArray[np.uint8]  # [H, W, 3]
    names: Sequence[str]  # [N] of the action sequences
    actions: NDArray[np.float32]  # [N, L, A]
    images: NDArray[np.uint8]  # [N, L, H, W, 3]
    reward: NDArray[np.float32]  # [N, L]


@dataclass(frozen=True)
class Course:
    """Quantities along the first rows of one episode, as the film shows it."""

    context: int  # rows seen; the imagined course begins after them
    # [T] divergence of the belief with the image from the one without it, in nats; NaN where there
    # is none: in the first row, and for latents without a distribution
    surprise: NDArray[np.float64]
    reward: NDArray[np.float64]  # [T] that came
    reward_imagined: NDArray[np.float64]  # [T] read from beliefs that see the context alone
    value: NDArray[np.float64]  # [T] of beliefs that see every image
    value_imagined: NDArray[np.float64]  # [T] of those that see the context alone


@torch.inference_mode()
def sample_futures(
    agent: Agent, episode: Episode, beliefs: Latent, row: int, length: int, seed: int = 0
) -> Futures:
    """Draw FUTURES_SAMPLED futures after a row; ``beliefs``: [T] of the episode."""
    after = slice(row + 1, row + 1 + length)
    done = torch.from_numpy(episode.action[after]).to(agent.device)  # [L, A]
    start = repeat(at(beliefs, row), FUTURES_SAMPLED)
    actions = done.expand(FUTURES_SAMPLED, *done.shape)
    generator = torch.Generator().manual_seed(seed)
    shape = (FUTURES_SAMPLED, len(done), agent.model.dynamics.noise_size)
    noise = torch.randn(shape, generator=generator).to(agent.device)
    imagined = agent.model.imagine(start, actions, noise)
    spec = agent.model.spec
    return Futures(
        row,
        seen=spec.shown(episode.image[row]),
        truth=spec.shown(episode.image[after]),
        images=spec.shown(decode(agent, imagined)),
        reward=predict_reward(agent, imagined.features),
    )


@torch.inference_mode()
def try_alternatives(
    agent: Agent,
    episode: Episode,
    beliefs: Latent,
    row: int,
    length: int = ROWS_OF_ALTERNATIVES,
    *,
    with_plan: bool = True,
) -> Alternatives:
    """Imagine other actions after a row; ``beliefs``: [T] of the episode.

    They are the constant actions that change the image most, and no action. With a plan also that:
    it is made again at each imagined row, as an episode would do.
    """
    belief, spec = at(beliefs, row), agent.model.spec
    named = _constants(agent, belief, length)
    if with_plan:
        named = {"the planner": _plan_along(agent, belief, length), **named}
    actions = torch.stack(list(named.values()))  # [N, L, A]
    imagined = agent.model.imagine(repeat(belief, len(actions)), actions, None)
    return Alternatives(
        row,
        seen=spec.shown(episode.image[row]),
        names=list(named),
        actions=actions.float().cpu().numpy(),
        images=spec.shown(decode(agent, imagined)),
        reward=predict_reward(agent, imagined.features),
    )


@torch.inference_mode()
def follow(agent: Agent, episode: Episode, beliefs: Latent, context: int, rows: int) -> Course:
    """Surprise, reward and value along the first rows; ``beliefs``: [T] of the episode."""
    rows = min(rows, len(episode))
    window = cut([episode], [(0, 0)], rows)
    seen = at(beliefs, slice(rows))
    actions = window.action[0].to(agent.device)  # [T, A]
    start = at(observe(agent, window, context), (0, -1))
    imagined = agent.model.imagine(start, actions[context:], None).features  # [L, F]
    without_images = torch.cat([seen.features[:context], imagined])
    return Course(
        context,
        surprise=_surprise(agent, seen, actions),
        reward=episode.reward[:rows].astype(np.float64),
        reward_imagined=predict_reward(agent, without_images).astype(np.float64),
        value=_value(agent, seen.features),
        value_imagined=_value(agent, without_images),
    )


def _surprise(agent: Agent, beliefs: Latent, actions: Tensor) -> NDArray[np.float64]:
    """[T], [T, A] -> [T]: KL of each belief from its prior, which has not seen the row's image."""
    dynamics = agent.model.dynamics
    context = dynamics.remember(at(beliefs, slice(-1)), actions[1:])
    prior = dynamics.imagine(context, None).distribution
    posterior = at(beliefs, slice(1, None)).distribution
    surprise = np.full(len(actions), np.nan)
    if prior is not None and posterior is not None:
        surprise[1:] = posterior.divergence(prior).double().cpu().numpy()
    return surprise


def _value(agent: Agent, features: Tensor) -> NDArray[np.float64]:
    value: NDArray[np.float64] = agent.model.slow_value(features).double().cpu().numpy()
    return value


def _constants(agent: Agent, belief: Latent, length: int) -> dict[str, Tensor]:
    """Name -> [L, A]: the constant actions that change the last image most, in a fixed order."""
    size, has_choices = agent.model.spec.action_size, agent.model.spec.has_choices
    one = torch.eye(size, device=agent.device)
    every = {f"choice {n}": one[n] for n in range(size)} if has_choices else {}
    if not has_choices:
        for n in range(size):
            which = f"action {n + 1} " if size > 1 else ""
            every |= {f"{which}full -": -one[n], f"{which}full +": one[n]}
    tried = torch.stack(list(every.values()))[:, None].expand(-1, length, -1)  # [N, L, A]
    nothing = torch.zeros_like(tried[:1])
    chosen = list(range(len(tried)))
    if len(tried) > CONSTANTS_SHOWN:
        ends = imagine_images(agent, belief, torch.cat([nothing, tried]))[:, -1].astype(np.int16)
        change = np.abs(ends[1:] - ends[0]).mean((1, 2, 3))
        chosen = sorted(np.argsort(-change, kind="stable")[:CONSTANTS_SHOWN].tolist())
    names = list(every)
    named = {names[n]: tried[n] for n in chosen}
    return named if has_choices else {**named, "no action": nothing[0]}


def _plan_along(agent: Agent, belief: Latent, length: int) -> Tensor:
    """[L, A]: the first action of a plan at each row that the earlier ones lead to"""
    plan, actions = None, []
    for _ in range(length):
        plan = agent.plan(belief, previous=plan)
        actions.append(plan.actions[0])
        belief = at(agent.model.imagine(belief, plan.actions[:1], None), -1)
    return torch.stack(actions)
