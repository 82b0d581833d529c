"""A run opened for looking: its scores, episodes, predictions, plans and figures."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import AHEAD, CONTEXT
from worldmodel.checks import ConfigError, nearest
from worldmodel.config import Config
from worldmodel.opened_run.heldout import Heldout
from worldmodel.opened_run.measurements import Measurements
from worldmodel.opened_run.pictures import draw
from worldmodel.opened_run.records import (
    DistanceErrors,
    EpisodePrediction,
    Latents,
    Metrics,
    Numbers,
    Plans,
    ProbeScores,
    Scores,
)

if TYPE_CHECKING:  # a robot may not have matplotlib
    from matplotlib.figure import Figure


def open_run(
    run: Path | str, device: str = "cpu", *, config: Config | None = None, trust: bool = False
) -> Run:
    """Open a run to look at it, also while it trains. Nothing is written, no file's code runs.

    ``config``: the settings that it was made with, where its parts are of your own making.
    ``trust``: a module that its task names may be imported, for the true states of ``probe``.
    """
    return Run(Measurements(Path(run), config, device, trust=trust))


class Run:
    """A run's numbers as small records of arrays, and its figures.

    ::

        run = worldmodel.open_run("runs/default-toy-0")
        run.scores().mean                       # [evaluation]
        run.predict(0).model_images             # [row, height, width, channel]
        run.figure("open_loop", episode=0)

    Each record says the names of its axes. Weights and episodes are read at the first use and then
    kept: open a run that trains again to see newer ones. Scores and metrics are read at each call.
    """

    def __init__(self, measured: Measurements) -> None:
        self._measured = measured

    @property
    def folder(self) -> Path:
        return self._measured.run

    @property
    def config(self) -> Config:
        return self._measured.config

    @property
    def agent(self) -> Agent:
        """As ``worldmodel.load`` gives it."""
        return self._measured.agent

    @cached_property
    def heldout(self) -> Heldout:
        """The episodes of the last evaluation, which the model was not trained on."""
        return Heldout(self._measured)

    def scores(self) -> Scores:
        """The evaluations so far."""
        evaluations = self._measured.curves.evaluations()
        most = max((len(each.returns) for each in evaluations), default=0)
        returns = np.full((len(evaluations), most), np.nan)
        for row, each in zip(returns, evaluations, strict=True):
            row[: len(each.returns)] = each.returns
        return Scores(
            env_steps=np.array([each.env_steps for each in evaluations], np.int64),
            wall_clock_s=np.array([each.wall_clock_s for each in evaluations], np.float64),
            returns=returns,
            mean=np.array([np.mean(each.returns) for each in evaluations], np.float64),
        )

    def metrics(self) -> Metrics:
        """Every number of the training, by name: ``metrics()["loss/image"]``."""
        lines = self._measured.curves.metrics()
        names = dict.fromkeys(name for line in lines for name in line)
        columns = {name: [line.get(name, np.nan) for line in lines] for name in names}
        return Metrics({n: _float(column) for n, column in columns.items() if _is_number(column)})

    def numbers(self, name: str) -> Numbers:
        """One number of the training over the steps, without the lines that do not hold it."""
        metrics, lines = self.metrics(), self._measured.curves.metrics()
        if name not in metrics:
            raise ConfigError(f"numbers: no number {name!r}{nearest(name, list(metrics))}")
        held = np.array([name in line for line in lines], np.bool_)
        return Numbers(
            name,
            env_steps=metrics["env_steps"][held].astype(np.int64),
            wall_clock_s=metrics["wall_clock_s"][held],
            values=metrics[name][held],
        )

    def predict(
        self, episode: int, seen: int = CONTEXT, ahead: int = AHEAD, *, begin: int = 0
    ) -> EpisodePrediction:
        """Let the model see ``seen`` rows of a held-out episode from row ``begin`` on.

        It then imagines ``ahead`` rows, or as many as the episode has left, from the actions alone.
        """
        measured = self._measured
        window = measured.window(episode, begin, seen, ahead)
        prediction, errors = measured.predicted(window, seen), measured.window_errors(window, seen)
        vectors = prediction.vectors
        return EpisodePrediction(
            measured.number(episode),
            begin,
            seen,
            images=prediction.truth[0],
            model_images=prediction.model[0],
            rewards=prediction.reward[0],
            model_rewards=prediction.model_reward[0],
            error=errors.model,
            error_hold_last=errors.hold_last,
            error_mean_image=errors.mean_image,
            reward_error=errors.reward_model,
            reward_error_hold_last=errors.reward_hold_last,
            vectors={name: truth[0] for name, (truth, _) in vectors.items()},
            model_vectors={name: model[0] for name, (_, model) in vectors.items()},
        )

    def plans(self, episode: int, row: int) -> Plans:
        """Plan again at a row of a held-out episode, and keep every candidate.

        As many rows as the planner looks ahead must follow the row.
        """
        moment = self._measured.moment(episode, row)
        most = max(map(len, moment.returns))
        return Plans(
            self._measured.number(episode),
            row,
            iterations=len(moment.returns),
            plan_return=moment.plan_return,
            candidates=np.stack([_filled(part, most) for part in moment.actions]),
            returns=np.stack([_filled(part, most) for part in moment.returns]),
            elites=moment.elite_actions,
            plan=moment.plan_actions,
            plan_images=moment.plan,
            done=moment.done,
            images=moment.truth,
        )

    def errors(self) -> DistanceErrors:
        """Errors by rows ahead, over windows of all held-out episodes; some seconds, once."""
        errors = self._measured.errors
        episodes = np.array(list(self._measured.long), np.int64)
        same: dict[str, Any] = {f.name: getattr(errors, f.name) for f in fields(errors)}
        return DistanceErrors(episodes=episodes, **same)

    def probe(self) -> ProbeScores:
        """How well a linear probe reads the simulator's true state from the beliefs."""
        probes = self._measured.probes
        return ProbeScores(
            tuple(each.name for each in probes),
            r_squared=np.array([each.r_squared for each in probes]),
            lowest=np.array([each.spread[0] for each in probes]),
            highest=np.array([each.spread[1] for each in probes]),
            true=np.stack([each.true for each in probes]),
            read=np.stack([each.read for each in probes]),
            episode=self._measured.episode_of_each_row,
        )

    def latents(self) -> Latents:
        """The beliefs along all held-out episodes, and their principal components."""
        measured = self._measured
        return Latents(
            features=np.concatenate(measured.features),
            points=measured.map.points,
            shares=measured.map.shares,
            episode=measured.episode_of_each_row,
            row=measured.map.row,
        )

    def figure(self, name: str, episode: int = 0, row: int = CONTEXT - 1) -> Figure:
        """One of the report's drawings, as a matplotlib figure.

        ``episode`` counts for figures of one episode, ``row`` for those of one decision or of
        several futures. An unknown name is answered with the list of all.
        """
        return draw(self._measured, name, episode, row)

    def __repr__(self) -> str:
        scores, count = self.scores(), len(list((self.folder / "heldout").glob("*.npz")))
        env_steps = [*scores.env_steps, *self.metrics().get("env_steps", ())]
        steps = int(max(env_steps, default=0))
        best = f"best score {_short(scores.mean.max())}" if len(scores.mean) else "no score yet"
        episodes = f"{count} held-out episode{'' if count == 1 else 's'}"
        return f"Run({self.config.task}, {steps:,} env steps, {best}, {episodes})"


def _is_number(column: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in column)


def _float(column: list[Any]) -> NDArray[np.float64]:
    return np.array(column, np.float64)


def _filled(part: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """[n, ...] -> [size, ...], with NaN after the end"""
    filled = np.full((size, *part.shape[1:]), np.nan, np.float32)
    filled[: len(part)] = part
    return filled


def _short(score: float) -> str:
    return f"{score:,.0f}" if abs(score) >= 100 else f"{score:.3g}"
