"""Some of the weights to zero, and the others solved anew, so that a layer says what it said.

A layer is judged on what it meets, X: the rows that the agent observes and imagines along its own
episodes. How far its output moves is a parabola in its weights::

    |X W' - X W|^2 + ridge |W' - W|^2  =  (W' - W)T H (W' - W),    H = XT X + ridge

so what is the least loss of making one weight zero is known, ``w^2 / (H^-1)_ii``, and so is what
the others must become (the optimal brain surgeon). The cheapest go, each output for itself; what
is left is solved and judged anew, in as many steps as can be paid for. The ridge pulls towards the
old weights and not towards zero: no answer is worse than the old weights with zeros among them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.models import WorldModel
from worldmodel.replay import read_episode
from worldmodel.structs import Episode, at, repeat

EXPORTED = ("encoder", "dynamics", "reward", "discount", "slow_value", "policy")
SMALLEST = 256  # numbers; below that zeros save no bytes
RIDGE = 1e-3  # of the inputs' mean square
EFFORT = 2048  # steps times inputs: a step costs the inputs' cube
ROWS = 16384  # that a layer is judged on, at most
WALKED = 3000  # rows of the newest episodes; the last one is whole
FUTURES = 2  # imagined from each observed row
AT_ONCE = 2**24  # numbers: 128 MB

Part = nn.Linear | nn.Conv2d


Walk = Callable[[WorldModel], None]
"""Lets all that is exported answer on the same rows, whichever model it is given."""


@torch.no_grad()
def pruned(agent: Agent, share: float, episodes: Sequence[Episode]) -> Agent:
    """Another agent, of whose exported weights so large a share is zero."""
    model = copy.deepcopy(agent.model)
    each = share_of_each(model, share)
    inputs = met(model, walk_along(agent, episodes))
    for name, part in prunable(model):
        rows = inputs.pop(name).double()
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
    """Observe their rows, and from each imagine random futures as long as a plan."""
    generator = torch.Generator().manual_seed(0)
    shape = (FUTURES, agent.planner.horizon, agent.model.spec.action_size)
    futures = [
        torch.randn(len(episode), *shape, generator=generator).clamp(-1.0, 1.0)
        for episode in episodes
    ]

    def walk(model: WorldModel) -> None:
        for episode, actions in zip(episodes, futures, strict=True):
            _answer(model, episode, actions)

    return walk


def _answer(model: WorldModel, episode: Episode, futures: Tensor) -> None:
    """futures [T, N, L, A]"""
    embed = model.embed(torch.from_numpy(episode.image)[None])  # [1, T, E]
    _, beliefs = model.observe(torch.from_numpy(episode.action)[None], embed, None)
    starts = repeat(at(beliefs, 0), futures.shape[1])
    features = model.imagine(starts, futures, None).features
    for head in (model.reward, model.discount, model.slow_value, model.policy):
        if head is not None:
            head(features)


def prunable(model: WorldModel) -> Iterator[tuple[str, Part]]:
    """In the order of a walk."""
    for name, part in model.named_modules():
        if name.split(".")[0] not in EXPORTED or not isinstance(part, nn.Linear | nn.Conv2d):
            continue
        if part.weight.numel() >= SMALLEST:
            yield name, part


def share_of_each(model: WorldModel, share: float) -> float:
    """Of each matrix, so that it is ``share`` of all: biases and norms stay."""
    total = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.split(".")[0] in EXPORTED
    )
    return share * total / sum(part.weight.numel() for _, part in prunable(model))


def met(model: WorldModel, walk: Walk) -> dict[str, Tensor]:
    """The inputs of each layer: [M, I], with a column of ones where it has a bias."""
    inputs: dict[str, list[Tensor]] = {name: [] for name, _ in prunable(model)}
    hooks = [
        part.register_forward_pre_hook(lambda _, given, name=name: inputs[name].append(given[0]))
        for name, part in prunable(model)
    ]
    try:
        walk(model)
    finally:
        for hook in hooks:
            hook.remove()
    rows = {name: unfolded(part, inputs.pop(name)) for name, part in prunable(model)}
    return {
        name: rows[name] if part.bias is None else functional.pad(rows[name], (0, 1), value=1.0)
        for name, part in prunable(model)
    }


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
