"""Config: the tree of all settings, each with its bounds and its only default.

Defaults are in frozen dataclasses, most of them in the file of the part that they belong to. A
preset (a YAML file in ``configs/``) holds only the differences; the command line changes single
settings. An unknown name, a wrong type or an impossible value is a ``ConfigError`` that names the
path and the most similar known name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from worldmodel.behaviours import BehaviourSettings, Imagined
from worldmodel.checks import (
    at_least,
    check,
    more_than,
    require,
)
from worldmodel.envs.settings import EnvSettings
from worldmodel.learner import LearnerSettings
from worldmodel.losses import Objective, terms_in
from worldmodel.models.settings import ModelSettings
from worldmodel.planners import ILQR, MPPI, PlannerSettings
from worldmodel.planning import Planning
from worldmodel.replay.settings import ReplaySettings

UPDATES_PER_ROW = 0.6  # if loop.updates is None


@dataclass(frozen=True)
class LoopSettings:
    seed_episodes: Annotated[int, at_least(1)] = 5
    # Updates on the seed episodes before the planner acts.
    seed_updates: Annotated[int, at_least(0)] = 200
    # Updates for each 1000 simulator steps collected; None: 0.6 for each row, so that a task whose
    # actions last two steps has twice as many as one whose actions last four.
    updates: Annotated[float | None, more_than(0)] = None
    # Episodes that are collected in parallel, planned for as one batch, with the same weights.
    episodes_at_once: Annotated[int, at_least(1)] = 1
    # Actions of seed episodes: exploration noise alone, which is correlated in time, or uniform
    # random actions that are independent at each row.
    seed_actions: Literal["wander", "uniform"] = "wander"
    evaluate_every: Annotated[int, at_least(1)] = 10_000  # simulator steps
    evaluate_episodes: Annotated[int, at_least(1)] = 5
    # A collecting process that gives no row for so long counts as hung and is replaced. A first
    # start that compiles a renderer takes a minute on a slow machine.
    patience_s: Annotated[float, more_than(0)] = 300.0


@dataclass(frozen=True)
class ExplorationSettings:
    """Exploration noise on the planned actions during collection."""

    # Standard deviation of the noise; if the action is one of several choices, the probability that
    # it is replaced by a random one.
    size: Annotated[float, at_least(0)] = 0.3
    # Correlation of the noise between two rows. White noise averages out before anything moves:
    # over 25 random episodes of ball_in_cup_catch it scored 21, this 102; on finger_spin 1
    # against 7.
    memory: Annotated[float, at_least(0, below=1)] = 0.8
    # How much the noise's size varies over time: a standard deviation of its logarithm. Small noise
    # around a policy that has converged explores nothing new: walker_stand did not learn to stand
    # (assets/trials/walker_stand_noise.csv).
    swell: Annotated[float, at_least(0)] = 1.0


@dataclass(frozen=True)
class Config:
    task: str = "cartpole_swingup"
    seed: Annotated[int, at_least(0)] = 0
    discount_rate: Annotated[float, more_than(0, at_most=1)] = 0.99  # for each row of delay
    env: EnvSettings = EnvSettings()
    replay: ReplaySettings = ReplaySettings()
    model: ModelSettings = ModelSettings()
    objective: Objective = Objective()
    behaviour: BehaviourSettings | None = Imagined()
    learner: LearnerSettings = LearnerSettings()
    planner: PlannerSettings = MPPI()
    planning: Planning = Planning()
    exploration: ExplorationSettings = ExplorationSettings()
    loop: LoopSettings = LoopSettings()

    def __post_init__(self) -> None:
        check(self)
        planner, planning = self.planner, self.planning
        require(
            isinstance(planner, ILQR) or planning.proposals < planner.candidates,
            "planning.proposals: expected fewer than planner.candidates ="
            f" {getattr(planner, 'candidates', 0)}, got {planning.proposals}",
        )
        require(
            not isinstance(planner, MPPI) or planning.std_without_policy >= planner.min_std,
            "planning.std_without_policy: expected at least planner.min_std, the smallest that the"
            f" search goes to, got {planning.std_without_policy}",
        )
        complaint = self.wrong_image_size(self.env.image_size)
        require(not complaint, f"env.image_size: {complaint}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Raise if parts do not fit each other, by the needs that they declare."""
        parts: dict[str, Any] = {
            f"objective.{name}": term for name, term in terms_in(self.objective).items()
        }
        if self.behaviour is not None:
            parts["behaviour"] = self.behaviour
        for path, part in parts.items():
            for need in sorted(part.needs):
                is_there, because = self.model.offers(need)
                require(is_there, f"{path}: needs {need}, and {because}; write {path}: none")
        dynamics, posterior = self.model.dynamics, self.model.posterior
        require(
            dynamics.latent in posterior.fits,
            f"model.posterior.kind: {posterior.kind} gives the numbers of latents that are"
            f" {' or '.join(sorted(posterior.fits))}; those of model.dynamics.kind ="
            f" {dynamics.kind} are {dynamics.latent}",
        )

    def wrong_image_size(self, size: int) -> str:
        """Why encoder or decoder cannot take square images with a side of ``size``; else empty."""
        for part, settings in (("encoder", self.model.encoder), ("decoder", self.model.decoder)):
            if takes := settings.wrong_size(size):
                return f"the {settings.kind} {part} takes {takes}, got {size}"
        return ""
