"""Config: the tree of all settings, each with its bounds and its only default.

Defaults are in frozen dataclasses, most of them in the file of the part that they belong to. A
preset (a YAML file in ``configs/``) holds only the differences; the command line changes single
settings. An unknown name, a wrong type or an impossible value is a ``ConfigError`` that names the
path and the most similar known name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from worldmodel.behaviours import BehaviourSettings, Imagined
from worldmodel.checks import (
    ConfigError,
    at_least,
    check,
    hints,
    kinds,
    more_than,
    require,
    sections,
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
    """Episodes of random actions that are collected before anything is learned."""
    seed_updates: Annotated[int, at_least(0)] = 200
    """Updates on these first episodes, before the planner acts."""
    # Updates for each 1000 simulator steps collected; None: 0.6 for each row, so that a task whose
    # actions last two steps has twice as many as one whose actions last four.
    updates: Annotated[float | None, more_than(0)] = None
    """Updates for each 1000 simulator steps that are collected. Larger: more is learned from each
    step, and a run takes longer. none: 0.6 for each row."""
    episodes_at_once: Annotated[int, at_least(1)] = 1
    """Episodes that are collected in parallel, planned for as one batch, with the same weights.
    Larger: faster where there are many cores."""
    seed_actions: Literal["wander", "uniform"] = "wander"
    """Actions of the first episodes: wander is exploration noise alone, which is correlated in
    time; uniform draws each action independently."""
    evaluate_every: Annotated[int, at_least(1)] = 10_000
    """Simulator steps between two evaluations of the planner without noise."""
    evaluate_episodes: Annotated[int, at_least(1)] = 5
    """Episodes that each evaluation plays. Larger: a surer score, and less time to learn."""
    # A collecting process that gives no row for so long counts as hung and is replaced. A first
    # start that compiles a renderer takes a minute on a slow machine.
    patience_s: Annotated[float, more_than(0)] = 300.0
    """Seconds without a row after which a collecting process counts as hung and is replaced."""


@dataclass(frozen=True)
class NoiseSettings:
    """Exploration noise on the planned actions during collection."""

    kind: Literal["noise"] = "noise"
    size: Annotated[float, at_least(0)] = 0.3
    """Standard deviation of the noise on collected actions, which are in [-1, 1]; for a choice, the
    probability that a random one replaces it."""
    last_size: Annotated[float | None, at_least(0)] = None
    """The size after exploration.shrinks_over. none: it stays as it is."""
    shrinks_over: Annotated[int, at_least(1)] = 10_000
    """Simulator steps over which the size goes to exploration.last_size, in a straight line."""
    # Correlation of the noise between two rows. White noise averages out before anything moves:
    # over 25 random episodes of ball_in_cup_catch it scored 21, this 102; on finger_spin 1
    # against 7.
    memory: Annotated[float, at_least(0, below=1)] = 0.8
    """Correlation of the noise between two rows. 0: white noise, which averages out before anything
    moves."""
    curiosity: Annotated[float, at_least(0)] = 0.0
    """Weight of the ensemble's disagreement, added to the reward of each imagined row, in plans of
    collected episodes only. Larger: they go where the model does not know."""
    # How much the noise's size varies over time: a standard deviation of its logarithm. Small noise
    # around a policy that has converged explores nothing new: walker_stand did not learn to stand
    # (assets/trials/walker_stand_noise.csv).
    swell: Annotated[float, at_least(0)] = 1.0
    """How much the noise's size varies over time: the standard deviation of its logarithm. 0: it is
    constant."""


@dataclass(frozen=True)
class DrawsSettings:
    """During collection the policy's own draws act, and no noise is added to them."""

    kind: Literal["policy"] = "policy"


ExplorationSettings = NoiseSettings | DrawsSettings


@dataclass(frozen=True)
class Config:
    """All settings of a run. Settings that are impossible raise ``ConfigError``."""

    task: str = "cartpole_swingup"
    """What to learn: a name that `worldmodel tasks` lists, or gym:ID for an environment of
    gymnasium."""
    seed: Annotated[int, at_least(0)] = 0
    """Where all random numbers of a run begin. Another seed is another run with the same
    settings."""
    discount_rate: Annotated[float, more_than(0, at_most=1)] = 0.99
    """How much a reward counts, for each row that it lies ahead. Nearer to 1: later rewards count
    more."""
    env: EnvSettings = EnvSettings()
    replay: ReplaySettings = ReplaySettings()
    model: ModelSettings = ModelSettings()
    objective: Objective = Objective()
    behaviour: BehaviourSettings | None = Imagined()
    """What trains the policy: imagined learns from imagined returns, soft and dqn from real rows:
    soft is soft actor-critic, dqn Q-learning for choices; lqr computes a time_varying policy in
    closed form. none: nothing does."""
    learner: LearnerSettings = LearnerSettings()
    planner: PlannerSettings | None = MPPI()
    """The search for actions: cem, icem, mppi and shooting draw candidates, gradient climbs the
    slope of the score, ilqr improves one trajectory. none: the policy acts."""
    planning: Planning = Planning()
    exploration: ExplorationSettings = NoiseSettings()
    """How collected actions differ from those of an evaluation: noise is added to them, or policy,
    which draws from its distribution instead of taking the most likely action."""
    loop: LoopSettings = LoopSettings()

    def __post_init__(self) -> None:
        check(self)
        planner, planning = self.planner, self.planning
        candidates = getattr(planner, "candidates", math.inf)
        require(
            planning.proposals < candidates,
            f"planning.proposals: expected fewer than planner.candidates = {candidates}, got"
            f" {planning.proposals}; choose both, such as --planner.candidates {candidates}"
            f" --planning.proposals {candidates // 4}",
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
                is_there, because, remedy = self.model.offers(need)
                remedy = remedy or f"{path}: none"
                require(is_there, f"{path}: needs {need}, and {because}; write {remedy}")
        self._check_posterior()
        self._check_decoder()
        self._check_required()
        self._check_trained()
        self._check_disagreement()
        self._check_acting()

    def _check_disagreement(self) -> None:
        """Raise if plans would count the disagreement of an ensemble that is not there."""
        weights = {"planning.pessimism": self.planning.pessimism}
        if isinstance(self.exploration, NoiseSettings):
            weights["exploration.curiosity"] = self.exploration.curiosity
        for path, weight in weights.items():
            require(
                not weight or self.model.ensemble is not None,
                f"{path}: needs the disagreement of an ensemble, and model.ensemble is none; write"
                f" model.ensemble.size: 5 and objective.ensemble.weight: 1.0, or {path}: 0.0",
            )
            require(
                not weight or self.planner is not None,
                f"{path}: is a part of what a planner searches for, and planner is none; write"
                f" planner.kind: cem, or {path}: 0.0",
            )
            require(
                not weight or self.planning.goal is None,
                f"{path}: changes what rewards count, and planning.goal plans to an image instead;"
                f" write planning.goal: none, or {path}: 0.0",
            )

    def _check_acting(self) -> None:
        """Raise if nothing would act, or if what acts cannot."""
        acting = "planner: none lets the policy act"
        if self.planner is None:
            require(
                self.model.policy is not None,
                f"{acting}, and model.policy is none; write model.policy.kind: tanh_normal and a"
                " behaviour that trains it, such as behaviour.kind: imagined",
            )
            require(
                self.behaviour is not None,
                f"{acting}, and behaviour is none, so nothing would train it; write"
                " behaviour.kind: imagined",
            )
            require(
                self.planning.goal is None,
                f"{acting}, and planning.goal needs a planner; write planner.kind: cem, or"
                " planning.goal: none",
            )
        if isinstance(self.planner, ILQR):
            require(
                "flat_state" in self.model.dynamics.offers,
                "planner.kind: ilqr needs the derivatives of a flat latent, which"
                f" model.dynamics.kind = {self.model.dynamics.kind} does not have; write"
                " planner.kind: cem",
            )
        if isinstance(self.exploration, DrawsSettings):
            require(
                self.planner is None,
                "exploration.kind: policy needs planner: none, because a planner's action has no"
                " distribution to draw from; write exploration.kind: noise",
            )
            require(
                self.loop.seed_actions != "wander",
                "loop.seed_actions: wander is exploration noise, and exploration.kind is policy;"
                " write loop.seed_actions: uniform",
            )

    def _check_posterior(self) -> None:
        """Raise if the posterior does not fit the dynamics, or nothing would train a part of it."""
        dynamics, posterior = self.model.dynamics, self.model.posterior
        known: list[Any] = sections(hints(ModelSettings)["posterior"])
        fitting = [kind for part in known if dynamics.latent in part.fits for kind in kinds(part)]
        remedy = f"; write model.posterior.kind: {' or '.join(fitting)}" if fitting else ""
        require(
            dynamics.latent in posterior.fits,
            f"model.posterior.kind: {posterior.kind} gives the numbers of latents that are"
            f" {' or '.join(sorted(posterior.fits))}; those of model.dynamics.kind ="
            f" {dynamics.kind} are {dynamics.latent}{remedy}",
        )
        for part in sorted(posterior.offers - self._trained()):
            raise ConfigError(
                f"model.posterior.kind: {posterior.kind} has an {part}, and no term of the"
                " objective trains it; write objective.acting.weight: 1.0"
            )

    def _check_decoder(self) -> None:
        """Raise if the decoder cannot draw the latents."""
        dynamics, decoder = self.model.dynamics, self.model.decoder
        if decoder is None:
            return
        fits = getattr(decoder, "fits", {dynamics.latent})
        require(
            dynamics.latent in fits,
            f"model.decoder.kind: {decoder.kind} draws latents that are"
            f" {' or '.join(sorted(fits))}; those of model.dynamics.kind ="
            f" {dynamics.kind} are {dynamics.latent}; write model.decoder.kind: slim",
        )

    def _check_required(self) -> None:
        """Raise if a part requires another value of another setting."""
        parts = {f"model.{name}": part for name, part in vars(self.model).items()}
        for name, part in {**parts, "behaviour": self.behaviour}.items():
            for path, value in getattr(part, "requires", {}).items():
                given: Any = self
                for step in path.split("."):
                    given = getattr(given, step)
                given = getattr(given, "kind", given)
                written, got = (
                    str("none" if said is None else said).lower() for said in (value, given)
                )
                require(
                    given == value,
                    f"{name}.kind: {part.kind} needs {path}: {written}, got {got};"
                    f" write {path}: {written}",
                )

    def _check_trained(self) -> None:
        """Raise if the model has a part that one term alone would train, and that term is none."""
        for part, term in ModelSettings.trained_by.items():
            require(
                getattr(self.model, part) is None or part in self._trained(),
                f"model.{part}: no term of the objective trains it; write objective.{term}.weight:"
                f" 1.0 or model.{part}: none",
            )

    def _trained(self) -> set[str]:
        """What the terms of the objective need, and so train."""
        return {need for term in terms_in(self.objective).values() for need in term.needs}

    def wrong_image_size(self, size: int) -> str:
        """Why encoder or decoder cannot take square images with a side of ``size``; else empty."""
        for part, settings in (("encoder", self.model.encoder), ("decoder", self.model.decoder)):
            if settings is not None and (takes := settings.wrong_size(size)):
                return f"the {settings.kind} {part} takes {takes}, got {size}"
        return ""
