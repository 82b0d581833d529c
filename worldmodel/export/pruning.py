"""Pruning: some weights become zero, and the others are solved again for the same outputs.

A layer is judged on its inputs X, from the rows that the agent observes and imagines along its own
episodes. How far its output moves is a parabola in its weights::

    |X W' - X W|^2 + ridge |W' - W|^2  =  (W' - W)T H (W' - W),    H = XT X + ridge

so the least loss of making one weight zero is known, ``w^2 / (H^-1)_ii``, and so is what the others
must become (the optimal brain surgeon). For each output, the weights with the least loss become
zero; the others are solved and judged again, in as many steps as there is time for. The ridge pulls
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
from worldmodel.planners.categorical import largest
from worldmodel.replay import read_episode
from worldmodel.scores import RewardSum
from worldmodel.structs import Episode, Latent, at

SMALLEST = 256  # numbers; below that zeros save no bytes
RIDGE = 1e-3  # of the inputs' mean square
EFFORT = 2048  # steps times inputs: a step costs the inputs' cube
ROWS = 16384  # most inputs that a layer is judged on
WALKED = 3000  # rows of the newest episodes; the last one is complete
FUTURES = 2  # action sequences imagined from each observed row
AT_ONCE = 2**24  # numbers: 128 MB

Part = nn.Linear | nn.Conv2d


Walk = Callable[[WorldModel], None]
"""Calls all that is exported of a model, on the same rows each time."""


@dataclass(frozen=True)
class RecordedInputs:
    """The calls of a walk.

    ``inputs`` holds [M, I] for each layer that is worth pruning; with a bias, a column of ones.
    """

    inputs: dict[str, Tensor]
    numbers: int  # in the parameters of every module that was called


@torch.no_grad()
def pruned(agent: Agent, share: float, episodes: Sequence[Episode]) -> Agent:
    """Another agent; of its exported weights the given ``share`` is zero."""
    model = copy.deepcopy(agent.model)
    asked = record_inputs(model, walk_along(agent, episodes))
    each = share_of_each(model, asked, share)
    for name in list(asked.inputs):
        part = layer(model, name)
        rows = asked.inputs.pop(name).double()
        put(part, sparse_weights(matrix(part), rows.T @ rows, each, part.bias is not None))
    return Agent(model.requires_grad_(False), agent.planner, agent.planning, agent.discount_rate)


def newest_episodes(run: Path) -> list[Episode]:
    """The newest episodes of a run's replay, played by nearly the present agent."""
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

    Actions are random; if the policy proposes, its own are imagined once too.
    """
    generator = torch.Generator().manual_seed(0)
    spec = agent.model.spec
    score = RewardSum(agent.discount_rate)

    def noise(rows: int, count: int) -> Tensor:
        """[T, N, L, A]"""
        shape = (rows, count, agent.horizon, spec.action_size)
        return torch.randn(shape, generator=generator)

    futures = [noise(len(episode), FUTURES) for episode in episodes]
    futures = [largest(each) if spec.has_choices else each.clamp(-1.0, 1.0) for each in futures]
    draws = [noise(len(episode), 1) for episode in episodes]
    proposes = agent.model.policy is not None and agent.planning.proposals > 0

    def walk(model: WorldModel) -> None:
        imagination = Imagination(model, None)
        for episode, actions, drawn in zip(episodes, futures, draws, strict=True):
            beliefs = beliefs_along(model, episode)
            score.of_rows(imagination.imagine(beliefs, actions, None), actions, imagination)
            if proposes:
                imagination.follow(beliefs, drawn)

    return walk


def beliefs_along(model: WorldModel, episode: Episode) -> Latent:
    """The beliefs of an agent along an episode: [T]"""
    image, actions = (torch.from_numpy(rows)[None] for rows in (episode.image, episode.action))
    vectors = {name: torch.from_numpy(rows)[None] for name, rows in episode.vectors.items()}
    valid = torch.ones(actions.shape[:2], dtype=torch.bool)
    return at(model.beliefs(actions, model.embed(image, vectors).float(), valid), 0)


def is_worth_pruning(part: nn.Module) -> TypeGuard[Part]:
    return isinstance(part, nn.Linear | nn.Conv2d) and part.weight.numel() >= SMALLEST


def layer(model: WorldModel, name: str) -> Part:
    part = model.get_submodule(name)
    assert is_worth_pruning(part)
    return part


def share_of_each(model: WorldModel, asked: RecordedInputs, share: float) -> float:
    """The share of zeros in each matrix that makes ``share`` of all: biases and norms stay."""
    return share * asked.numbers / sum(layer(model, name).weight.numel() for name in asked.inputs)


def record_inputs(model: WorldModel, walk: Walk) -> RecordedInputs:
    """Record the inputs of all layers that a walk calls, which are those that are exported."""
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
    return RecordedInputs(inputs, numbers)


def unfolded(part: Part, inputs: Sequence[Tensor]) -> Tensor:
    """Inputs as a matrix [M, I]; a convolution is a product with every window of its input."""
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
    """At most ``most`` rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).long()]


def matrix(part: Part) -> Tensor:
    """[O, I] the weights, with the bias as the last column"""
    weights = part.weight.flatten(1).double()
    return weights if part.bias is None else torch.cat([weights, part.bias.double()[:, None]], 1)


def put(part: Part, weights: Tensor) -> None:
    """Write weights of the form that ``matrix`` returns into the layer."""
    if part.bias is not None:
        part.bias.copy_(weights[:, -1])
        weights = weights[:, :-1]
    part.weight.copy_(weights.reshape(part.weight.shape))


def sparse_weights(weights: Tensor, gram: Tensor, share: float, has_bias: bool) -> Tensor:
    """[O, I] -> [O, I], with the given share of zeros for each output. ``gram``: XT X [I, I]."""
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
    """Some outputs at a time, and for each the Cholesky factor of the block ``gone`` of H^-1."""
    at_once = max(1, AT_ONCE // max(1, gone.shape[1] * width))
    for begin in range(0, len(gone), at_once):
        some = slice(begin, begin + at_once)
        at = gone[some]
        yield some, torch.linalg.cholesky(inverse[at[:, :, None], at[:, None, :]])
