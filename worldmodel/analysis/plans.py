"""Compare the returns that plans promised with those obtained: is the planner or the model wrong?

There are three returns over the same look-ahead, from the belief at one row of an episode::

    promised   the planner's value of its plan: the mean imagined return of its elites
    imagined   the model's return of the actions that were then executed
    obtained   the rewards that then came, and the value of the belief after them

*imagined* - *obtained* is the error of the model alone, because both are of the same actions.
*promised* - *imagined* is the gain that the search expects over the executed actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.agent import Agent
from worldmodel.analysis.predictions import decode
from worldmodel.planners import Planner, no_planner
from worldmodel.replay import cut
from worldmodel.rollout import plan_seeds
from worldmodel.structs import Episode, Latent, Plan, Score, Search, at, repeat

EPISODES_PLANNED = 4  # as one batch
ROWS_PLANNED = 250  # the first rows of each episode: 15 s if a plan takes 60 ms
LEAST_SPREAD = 0.1
SHOWN_BEFORE = (0.0, 0.5, 1.0)  # ranks of the candidates drawn: the best, the middle, the worst
SHOWN_AFTER = (0.0, 1.0)  # of the elites of the last iteration

Returns = NDArray[np.float64]


@dataclass(frozen=True)
class PlanReturns:
    """Returns at every row after which the episode has a whole look-ahead of rows."""

    promised: Returns  # [M]
    imagined: Returns  # [M]
    obtained: Returns  # [M]
    row: NDArray[np.int64]  # [M]
    episode: NDArray[np.int64]  # [M]
    horizon: int
    # [M] standard deviation of the candidates' returns before the search: how much the choice of
    # actions matters here, as the model sees it
    spread: Returns
    # [M] distance of the plan's first action from the executed one; 0: the plan is the same again
    apart: Returns
    is_played: bool = False  # the plans are those with which the episodes were played

    def decisive(self, most: int) -> list[tuple[int, int]]:
        """The decisions whose candidates differ most: (episode, row), by episode and row.

        Two of the same episode are a whole look-ahead apart at least. Decisions whose spread is
        less than LEAST_SPREAD of the largest are left out: their candidates look alike.
        """
        chosen: list[tuple[int, int]] = []
        matters = self.spread >= LEAST_SPREAD * self.spread.max()
        for index in np.argsort(-self.spread, kind="stable")[: matters.sum()]:
            episode, row = int(self.episode[index]), int(self.row[index])
            near = (e == episode and abs(r - row) < self.horizon for e, r in chosen)
            if len(chosen) < most and not any(near):
                chosen.append((episode, row))
        return sorted(chosen)

    @property
    def model_error(self) -> float:
        """Root mean square of imagined - obtained."""
        return float(np.sqrt(((self.imagined - self.obtained) ** 2).mean()))

    @property
    def model_bias(self) -> float:
        return float((self.imagined - self.obtained).mean())

    @property
    def hope(self) -> float:
        """Mean of promised - imagined."""
        return float((self.promised - self.imagined).mean())


@dataclass(frozen=True)
class Moment:
    """One decision: the candidates, the plan, and the rows that followed."""

    row: int
    actions: list[NDArray[np.float32]]  # of each iteration [N, L, A]
    returns: list[NDArray[np.float32]]  # of each iteration [N]
    elites: int
    seen: NDArray[np.uint8]  # [H, W, 3] the last image
    truth: NDArray[np.uint8]  # [L, H, W, 3] the images that followed; later plans chose the actions
    done: NDArray[np.float32]  # [L, A]
    plan: NDArray[np.uint8]  # [L, H, W, 3] the chosen actions, imagined
    plan_actions: NDArray[np.float32]  # [L, A]
    plan_return: float  # imagined, of these actions
    elite_actions: NDArray[np.float32]  # [K, L, A] of the last iteration, the best first
    first: NDArray[np.uint8]  # [3, L, H, W, 3] before any search: the best, the middle, the worst
    first_actions: NDArray[np.float32]  # [3, L, A]
    first_returns: NDArray[np.float32]  # [3]
    last: NDArray[np.uint8]  # [2, L, H, W, 3] the best and the worst elite of the last iteration
    last_actions: NDArray[np.float32]  # [2, L, A]
    last_returns: NDArray[np.float32]  # [2]
    has_choices: bool  # an action is one of A choices, one-hot


@dataclass(frozen=True)
class PlansMade:
    """What is compared of the plans of an episode, row by row: no plan follows the last row."""

    value: Returns  # [T - 1]
    spread: Returns  # [T - 1] of the candidates' returns before the search
    first: NDArray[np.float32]  # [T - 1, A] each plan's first action


class Recorded:
    """A planner for one robot that keeps what ``PlansMade`` holds of every search.

    With it an agent plays episodes one after another, and ``of`` divides the searches among them.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.horizon = planner.horizon
        self._made: list[tuple[float, float, NDArray[np.float32]]] = []

    def search(self, score: Score, start: Tensor, **rest: Any) -> Search:
        spreads: list[Tensor] = []

        def measured(actions: Tensor) -> Tensor:
            returns = score(actions)
            if not spreads:
                spreads.append(_spread(returns))
            return returns

        found = self.planner.search(measured, start, **rest)
        first = found.actions[0, 0].float().cpu().numpy()
        self._made.append((float(found.value[0]), float(spreads[0][0]), first))
        return found

    def of(self, episodes: Sequence[Episode]) -> list[PlansMade]:
        """The plans of each episode; these are all that were played, in their order."""
        made, rest = [], iter(self._made)
        for episode in episodes:
            rows = [next(rest) for _ in range(len(episode) - 1)]
            value, spread, first = zip(*rows, strict=True)
            made.append(PlansMade(np.array(value), np.array(spread), np.stack(first)))
        return made


class Watched:
    """A planner that records the candidates that it evaluated and their returns."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.horizon = planner.horizon
        self.judged: list[tuple[Tensor, Tensor]] = []  # ([B, N, L, A], [B, N]) of each evaluation

    def search(self, score: Score, start: Tensor, **rest: Any) -> Search:
        def remember(actions: Tensor) -> Tensor:
            returns = score(actions)
            self.judged.append((actions.detach().clone(), returns.detach().clone()))
            return returns

        return self.planner.search(remember, start, **rest)


def compare_returns(
    agent: Agent,
    episodes: Sequence[Episode],
    seeds: Sequence[int],
    beliefs: Latent,
    made: Sequence[PlansMade] | None = None,
) -> PlanReturns:
    """Compare the plans at every row of the first episodes that are longer than a look-ahead.

    ``seeds``: the seeds of the episodes' starts; the seeds of the plans follow from them.
    ``beliefs``: [B, T] of whole episodes. A row counts if a whole look-ahead of rows follows it.
    ``made``: the plans with which the episodes were played; without them the agent plans again.
    """
    horizon = agent.horizon
    picks = [n for n, episode in enumerate(episodes) if len(episode) > horizon][:EPISODES_PLANNED]
    if not picks:
        raise ValueError(
            f"episodes: expected one of more rows than the planner's look-ahead of {horizon},"
            f" got {', '.join(str(len(episode)) for episode in episodes)}"
        )
    lengths = np.array([len(episodes[pick]) for pick in picks])
    rows = min(ROWS_PLANNED, int(lengths.max()) - horizon)
    length = rows + horizon
    windows = cut(episodes, [(pick, 0) for pick in picks], length)
    beliefs = at(beliefs, (picks, slice(length)))
    actions = windows.action.to(agent.device)  # [B, T, A]
    value = _value(agent, beliefs)  # [B, T]
    discount = agent.discount_rate * windows.discount.numpy().astype(np.float64)
    reward = windows.reward.numpy().astype(np.float64)
    if made is None:
        plans = _plan_again(agent, beliefs, [seeds[pick] for pick in picks], rows)
    else:
        plans = _side_by_side([made[pick] for pick in picks], rows)
    chunks: list[tuple[Returns, ...]] = []  # of each row
    for row in range(rows):
        ahead = actions[:, row + 1 : row + 1 + horizon]  # [B, L, A]
        imagined = _imagined_return(agent, _at(beliefs, row), ahead)
        obtained, weight = np.zeros(len(picks)), np.ones(len(picks))
        for later in range(row + 1, row + 1 + horizon):
            obtained += weight * reward[:, later]
            weight *= discount[:, later]
        obtained += weight * value[:, row + horizon]
        apart = np.abs(plans.first[row] - ahead[:, 0].cpu().numpy()).max(-1)
        whole = row + horizon < lengths
        places = np.full(len(picks), row), np.array(picks)
        columns = (plans.value[row], imagined, obtained, *places, plans.spread[row], apart)
        chunks.append(tuple(column[whole] for column in columns))
    every = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    promised, imagined, obtained, place, number, spread, apart = every
    return PlanReturns(
        promised,
        imagined,
        obtained,
        row=place.astype(np.int64),
        episode=number.astype(np.int64),
        horizon=horizon,
        spread=spread,
        apart=apart,
        is_played=made is not None,
    )


def _plan_again(agent: Agent, beliefs: Latent, seeds: Sequence[int], rows: int) -> PlansMade:
    """Plans for the first rows of several episodes, as one batch: [rows, B] instead of [T - 1]."""
    draws = [plan_seeds(seed) for seed in seeds]
    watched = Watched(_search_of(agent))
    agent = _with(agent, watched)
    plan: Plan | None = None
    values, spreads, firsts = [], [], []
    for row in range(rows):
        watched.judged.clear()
        plan = agent.plan(_at(beliefs, row), previous=plan, seed=[next(draw) for draw in draws])
        values.append(_numbers(plan.value))
        spreads.append(_numbers(_spread(watched.judged[0][1])))
        firsts.append(plan.first)
    return PlansMade(np.stack(values), np.stack(spreads), np.stack(firsts))


def _side_by_side(made: Sequence[PlansMade], rows: int) -> PlansMade:
    """The first rows of several episodes' plans: [rows, B]; a shorter episode ends with zeros."""

    def join(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        joined = np.zeros((rows, len(columns), *columns[0].shape[1:]), columns[0].dtype)
        for number, column in enumerate(columns):
            joined[: len(column), number] = column[:rows]
        return joined

    return PlansMade(
        join([each.value for each in made]),
        join([each.spread for each in made]),
        join([each.first for each in made]),
    )


def look_into(agent: Agent, episode: Episode, beliefs: Latent, row: int) -> Moment:
    """Plan at one row, and record the futures considered; ``beliefs``: [T] of the episode.

    A whole look-ahead of rows must follow the row. The plan of the row before is made first, so
    that the search has a warm start as it has in an episode.
    """
    belief = at(beliefs, row)
    previous = agent.plan(at(beliefs, row - 1)) if row else None
    watched = Watched(_search_of(agent))
    plan = _with(agent, watched).plan(belief, previous=previous)
    actions = [judged[0] for judged, _ in watched.judged]  # [N, L, A] each
    returns = [given[0] for _, given in watched.judged]  # [N] each
    elites = len(plan.elites)
    before, after = returns[0].argsort(descending=True), returns[-1].argsort(descending=True)
    picked = _ranks(before, SHOWN_BEFORE), _ranks(after[:elites], SHOWN_AFTER)
    first, last = actions[0][picked[0]], actions[-1][picked[1]]  # [3, L, A], [2, L, A]
    futures = torch.cat([plan.actions[None], first, last])  # [6, L, A]
    images = imagine_images(agent, belief, futures)  # [6, L, H, W, 3]
    count = len(first)
    spec = agent.model.spec
    came = slice(row + 1, row + 1 + agent.horizon)
    return Moment(
        row=row,
        actions=[_numbers(part).astype(np.float32) for part in actions],
        returns=[_numbers(part).astype(np.float32) for part in returns],
        elites=elites,
        seen=spec.shown(episode.image[row]),
        truth=spec.shown(episode.image[came]),
        done=episode.action[came],
        plan=images[0],
        plan_actions=_numbers(plan.actions).astype(np.float32),
        plan_return=float(_imagined_return(agent, at(belief, None), plan.actions[None])[0]),
        elite_actions=_numbers(actions[-1][after[:elites]]).astype(np.float32),
        first=images[1 : 1 + count],
        first_actions=_numbers(first).astype(np.float32),
        first_returns=_numbers(returns[0][picked[0]]).astype(np.float32),
        last=images[1 + count :],
        last_actions=_numbers(last).astype(np.float32),
        last_returns=_numbers(returns[-1][picked[1]]).astype(np.float32),
        has_choices=spec.has_choices,
    )


def _ranks(order: Tensor, shares: Sequence[float]) -> Tensor:
    """The indices at these shares of an order: 0 is its first, 1 its last."""
    return order[[round(share * (len(order) - 1)) for share in shares]]


@torch.inference_mode()
def imagine_images(agent: Agent, belief: Latent, actions: Tensor) -> NDArray[np.uint8]:
    """The images that follow these actions from one belief: [N, L, A] -> [N, L, H, W, 3]"""
    imagined = agent.model.imagine(repeat(belief, len(actions)), actions, None)
    return agent.model.spec.shown(decode(agent, imagined))


@torch.inference_mode()
def _imagined_return(agent: Agent, belief: Latent, actions: Tensor) -> Returns:
    """[B], [B, L, A] -> [B]: the imagined return of these actions, as a search computes it."""
    begin = repeat(belief, 1)
    features = agent.model.imagine(begin, actions[:, None], None).features  # [B, 1, L, F]
    return _numbers(agent.reward(features, actions[:, None]).sum(-1)[:, 0])


@torch.inference_mode()
def _value(agent: Agent, beliefs: Latent) -> Returns:
    """[B, T]: the value that a plan adds at the end of its look-ahead."""
    return _numbers(agent.model.slow_value(beliefs.features))


def _spread(returns: Tensor) -> Tensor:
    """[B, N] -> [B]"""
    return returns.std(-1, correction=0)


def _at(beliefs: Latent, row: int) -> Latent:
    """[B, T] -> [B]"""
    return at(beliefs, (slice(None), row))


def recorded(agent: Agent) -> tuple[Agent, Recorded]:
    """The agent with a search that keeps its plans, for ``compare_returns``."""
    keeping = Recorded(_search_of(agent))
    return _with(agent, keeping), keeping


def _search_of(agent: Agent) -> Planner:
    if agent.search is None:
        raise no_planner("a look at plans")
    return agent.search


def _with(agent: Agent, planner: Planner) -> Agent:
    """An agent with the same model and settings and another search."""
    return agent.changed(search=planner)


def _numbers(tensor: Tensor) -> Returns:
    numbers: Returns = tensor.double().cpu().numpy()
    return numbers
