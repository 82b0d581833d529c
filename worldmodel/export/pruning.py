"""Pruning: some weights become zero, and the others are solved anew for the same outputs.

A layer is judged on its inputs X, from the rows that the agent observes and imagines along its own
episodes. How far its output moves is a parabola in its weights::

    |X W' - X W|^2 + ridge |W' - W|^2  =  (W' - W)T H (W' - W),    H = XT X + ridge

so the least loss of making one weight zero is known, ``w^2 / (H^-1)_ii``, and so is what the others
must become (the optimal brain surgeon). For each output, the weights with the least loss become
zero; the others are solved and judged anew, in as many steps as there is time for. The ridge pulls
towards the old weights and not towards zero, so no answer is worse than the old weights with zeros
among them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.models import WorldModel
from worldmodel.models.imagination import Imagination
from worldmodel.models.roll import follow_images
from worldmodel.planners.categorical import largest
from worldmodel.replay import read_episode
from worldmodel.scores import RewardSum
from worldmodel.structs import Episode, Latent, at

SMALLEST = 256  # numbers; below that zeros save no bytes
RIDGE = 1e-3  # of the inputs' mean square
EFFORT = 2048  # steps times inputs: a step costs the inputs' cube
ROWS = 16384  # that a layer is judged on, at most
WALKED = 3000  # rows of the newest episodes; the last one is whole
FUTURES = 2  # imagined from each observed row
AT_ONCE = 2**24  # numbers: 128 MB

Part = nn.Linear | nn.Conv2d


Walk = Callable[[WorldModel], None]
"""Has a model answer whatever its exported agent is asked for, on the same rows each time."""


@dataclass(frozen=True)
class Met:
    """What a walk asked of a model."""

    # [M, I] of each layer that is worth pruning, with a column of ones where it has a bias
    inputs: dict[str, Tensor]
    numbers: int  # in the parameters of every module that was called


@torch.no_grad()
def pruned(agent: Agent, share: float, episodes: Sequence[Episode]) -> Agent:
    """Another agent; of its exported weights the given ``share`` is zero."""
    model = copy.deepcopy(agent.model)
    asked = met(model, walk_along(agent, episodes))
    each = share_of_each(model, asked, share)
    for name in list(asked.inputs):
        part = layer(model, name)
        rows = asked.inputs.pop(name).double()
        put(part, thinned(matrix(part), rows.T @ rows, each, part.bias is not None))
    return Agent(model.requires_grad_(False), agent.planner, agent.planning, agent.discount_rate)


def newest_episodes(run: Path) -> list[Episode]:
    """Of a run's replay: what the agent met when it was nearly what it is now."""
    episodes: list[Episode] = []
    for path in sorted((run / "replay").glob("*.npz"), reverse=True):
        episodes.append(read_episode(path))
        if sum(map(len, episodes)) >= WALKED:
            break
    if not episodes:
        raise ConfigError(
            f"prune: {run / 'replay'} holds no episode to judge the weights on; export where the"
            " run was trained, or with --prune 0"
        )
    return episodes


def walk_along(agent: Agent, episodes: Sequence[Episode]) -> Walk:
    """Observe the rows of episodes; from each, imagine and score futures as long as a plan.

    Actions are random, and once the policy's own where it proposes.
    """
    generator = torch.Generator().manual_seed(0)
    spec = agent.model.spec
    score = RewardSum(agent.discount_rate)

    def noise(rows: int, count: int) -> Tensor:
        """[T, N, L, A]"""
        shape = (rows, count, agent.planner.horizon, spec.action_size)
        return torch.randn(shape, generator=generator)

    futures = [noise(len(episode), FUTURES) for episode in episodes]
    futures = [largest(each) if spec.has_choices else each.clamp(-1.0, 1.0) for each in futures]
    draws = [noise(len(episode), 1) for episode in episodes]
    proposes = agent.model.policy is not None and agent.planning.proposals > 0

    def walk(model: WorldModel) -> None:
        imagination = Imagination(model, None)
        for episode, actions, drawn in zip(episodes, futures, draws, strict=True):
            beliefs = believed(model, episode)
            score.of_rows(imagination.imagine(beliefs, actions, None), actions, imagination)
            if proposes:
                imagination.follow(beliefs, drawn)

    return walk


def believed(model: WorldModel, episode: Episode) -> Latent:
    """What an agent believes along an episode: [T]"""
    image, actions = (torch.from_numpy(rows)[None] for rows in (episode.image, episode.action))
    vectors = {name: torch.from_numpy(rows)[None] for name, rows in episode.vectors.items()}
    acting = model.posterior.acting
    evidence = acting.evidence(model.embed(image, vectors).float(), actions)
    begin = model.dynamics.initial(1)
    beliefs = follow_images(model.dynamics, acting, begin, actions, evidence, None)[1]
    return at(beliefs, 0)


def is_worth_pruning(part: nn.Module) -> TypeGuard[Part]:
    return isinstance(part, nn.Linear | nn.Conv2d) and part.weight.numel() >= SMALLEST


def layer(model: WorldModel, name: str) -> Part:
    part = model.get_submodule(name)
    assert is_worth_pruning(part)
    return part


def share_of_each(model: WorldModel, asked: Met, share: float) -> float:
    """Of each matrix, so that it is ``share`` of all: biases and norms stay."""
    return share * asked.numbers / sum(layer(model, name).weight.numel() for name in asked.inputs)


def met(model: WorldModel, walk: Walk) -> Met:
    """What a walk calls is what is exported, whichever parts a model has."""
    called: dict[str, list[Tensor]] = {}

    def note(name: str, part: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = called.setdefault(name, [])
        if is_worth_pruning(part):
            rows.append(given[0])

    hooks = [
        part.register_forward_pre_hook(lambda part, given, name=name: note(name, part, given))
        for name, part in model.named_modules()
    ]
    try:
        walk(model)
    finally:
        for hook in hooks:
            hook.remove()
    inputs, numbers = {}, 0
    for name, part in model.named_modules():
        if name not in called:
            continue
        numbers += sum(parameter.numel() for parameter in part.parameters(recurse=False))
        if is_worth_pruning(part):
            rows = unfolded(part, called.pop(name))
            inputs[name] = rows if part.bias is None else functional.pad(rows, (0, 1), value=1.0)
    return Met(inputs, numbers)


def unfolded(part: Part, inputs: Sequence[Tensor]) -> Tensor:
    """A convolution is a product with every window of its input: [M, I]"""
    if isinstance(part, nn.Linear):
        return _some(torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs]), ROWS)
    images = torch.cat(list(inputs))
    windows = part(images[:1])[0, 0].numel()
    some = _some(images, max(1, ROWS // windows))
    unfold = functional.unfold(
        some, part.kernel_size, padding=cast(tuple[int, int], part.padding), stride=part.stride
    )
    return unfold.movedim(1, 2).flatten(0, 1)


def _some(rows: Tensor, most: int) -> Tensor:
    """Evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).long()]


def matrix(part: Part) -> Tensor:
    """[O, I], the bias as the last column"""
    weights = part.weight.flatten(1).double()
    return weights if part.bias is None else torch.cat([weights, part.bias.double()[:, None]], 1)


def put(part: Part, weights: Tensor) -> None:
    """What ``matrix`` took out."""
    if part.bias is not None:
        part.bias.copy_(weights[:, -1])
        weights = weights[:, :-1]
    part.weight.copy_(weights.reshape(part.weight.shape))


def thinned(weights: Tensor, gram: Tensor, share: float, has_bias: bool) -> Tensor:
    """[O, I] -> [O, I], with so large a share of zeros for each output. ``gram``: XT X [I, I]."""
    hessian = gram.clone()
    hessian.diagonal().add_(RIDGE * gram.diagonal().mean().clamp(min=1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    inputs = weights.shape[1] - has_bias
    count = min(inputs - 1, round(share * inputs))
    steps = max(1, min(count, EFFORT // inputs))
    solved, gone = weights, torch.zeros(len(weights), 0, dtype=torch.long)
    for step in range(1, steps + 1):
        loss = solved.square() / free(inverse, gone)
        loss.scatter_(1, gone, -1.0)
        gone = loss[:, :inputs].topk(count * step // steps, largest=False).indices  # [O, K]
        solved = without(weights, inverse, gone)
    return solved


def without(weights: Tensor, inverse: Tensor, gone: Tensor) -> Tensor:
    """The best weights that are zero where ``gone`` [O, K] says: [O, I]"""
    moved = torch.zeros_like(weights)
    for some, factor in _factors(inverse, gone, gone.shape[1]):
        lost = weights[some].gather(1, gone[some])[..., None]
        moved[some] = moved[some].scatter(1, gone[some], torch.cholesky_solve(lost, factor)[..., 0])
    return (weights - moved @ inverse).scatter(1, gone, 0.0)


def free(inverse: Tensor, gone: Tensor) -> Tensor:
    """The diagonal of H^-1 once the weights in ``gone`` [O, K] are no longer there: [O, I]"""
    diagonal = inverse.diagonal().expand(len(gone), -1).clone()
    for some, factor in _factors(inverse, gone, len(inverse)):
        across = torch.linalg.solve_triangular(factor, inverse[gone[some]], upper=False)
        diagonal[some] -= across.square().sum(1)
    return diagonal.clamp(min=1e-12 * float(inverse.diagonal().min()))


def _factors(inverse: Tensor, gone: Tensor, width: int) -> Iterator[tuple[slice, Tensor]]:
    """Some outputs at a time, and the factor of what ``gone`` cuts out of H^-1 for each of them."""
    at_once = max(1, AT_ONCE // max(1, gone.shape[1] * width))
    for begin in range(0, len(gone), at_once):
        some = slice(begin, begin + at_once)
        at = gone[some]
        yield some, torch.linalg.cholesky(inverse[at[:, :, None], at[:, None, :]])
