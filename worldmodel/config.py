"""The tree of settings: every one, with its bounds and its only default.

Defaults live in these frozen dataclasses; a preset (a YAML file in ``configs/``) says only what
differs; the command line overrides one by one. An unknown name, a wrong type or an impossible
value is a ``ConfigError`` that names the path and the nearest known name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from worldmodel.checks import (
    at_least,
    between,
    check,
    more_than,
    require,
)
from worldmodel.models.settings import ModelConfig
from worldmodel.planners import MPPI, PlannerSettings
from worldmodel.planning import Planning


@dataclass(frozen=True)
class EnvConfig:
    """What the camera sees and how long an action lasts."""

    camera: Annotated[int, at_least(0)] = 0
    image_size: Annotated[int, at_least(8)] = 64
    # None: the task's own (`worldmodel tasks` lists them).
    action_repeat: Annotated[int | None, at_least(1)] = None
    frames: Annotated[int, at_least(1)] = 1  # images stacked in the channel axis
    renderer: Literal["auto", "warp", "gl"] = "auto"
    samples: Annotated[int, between(1, 8)] = 1  # warp: n means n x n rays a pixel
    vectors: bool = False  # beside the image, what the simulator's own sensors say


@dataclass(frozen=True)
class ReplayConfig:
    """Where experience waits, and the windows that leave it."""

    batch: Annotated[int, at_least(1)] = 24  # windows in a batch
    length: Annotated[int, at_least(2)] = 12  # rows in a window
    # Windows drawn for each in a batch: the one of the highest priority is learned from.
    draws: Annotated[int, at_least(1)] = 2
    # The oldest episodes leave memory (never the disk) beyond this.
    memory_gb: Annotated[float, more_than(0)] = 4.0
    # A run stops rather than take more of the free disk than this.
    disk_share: Annotated[float, more_than(0, at_most=1)] = 0.5


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the bound that trains the world model."""

    image: Annotated[float, at_least(0)] = 1.0
    # The image's error is scaled up (models/pixels.py), so what must be learned beside it is too:
    # with 1 for both reward and kl_dynamics, 800 updates left twice the reward's error, and the
    # prediction 5 steps ahead was a tenth worse (assets/model_trials.csv: one seed).
    reward: Annotated[float, at_least(0)] = 10.0
    vectors: Annotated[float, at_least(0)] = 10.0  # as the reward; not studied
    discount: Annotated[float, at_least(0)] = 1.0
    kl_dynamics: Annotated[float, at_least(0)] = 5.0  # pulls the prior to the posterior
    kl_representation: Annotated[float, at_least(0)] = 0.3  # pulls the posterior to the prior
    free_nats: Annotated[float, at_least(0)] = 1.0
    # Of the rows, drawn anew for each update: the decoder's cost.
    decoded_share: Annotated[float, more_than(0, at_most=1)] = 0.125


@dataclass(frozen=True)
class ImaginationConfig:
    """How value and policy are learned from imagined returns."""

    # Posterior rows of the batch that imagination starts from.
    starts: Annotated[int, at_least(1)] = 96
    horizon: Annotated[int, at_least(1)] = 5
    trace: Annotated[float, between(0, 1)] = 0.95  # lambda of the returns
    entropy: Annotated[float, at_least(0)] = 1e-3
    # Weight of what keeps a policy from being too sure (models/policy.py).
    strain: Annotated[float, at_least(0)] = 0.1
    target_rate: Annotated[float, more_than(0, at_most=1)] = 0.1  # how fast the slow value follows


@dataclass(frozen=True)
class LearnerConfig:
    model_rate: Annotated[float, more_than(0)] = 8e-4
    value_rate: Annotated[float, more_than(0)] = 1e-3
    policy_rate: Annotated[float, more_than(0)] = 3e-4
    # From here on the rates fall, as one over the root of the number of updates; None: never.
    settle: Annotated[int | None, at_least(1)] = 1500
    epsilon: Annotated[float, more_than(0)] = 1e-5
    # Of the gradient's norm, for each of the three separately.
    clip: Annotated[float, more_than(0)] = 100.0
    # How fast the weights that act follow the learned ones; 1: the same.
    averaging: Annotated[float, more_than(0, at_most=1)] = 0.01
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


UPDATES_PER_ROW = 0.6  # where loop.updates is None


@dataclass(frozen=True)
class LoopConfig:
    seed_episodes: Annotated[int, at_least(1)] = 5
    # Learned from the seed episodes before the planner acts.
    seed_updates: Annotated[int, at_least(0)] = 200
    # For each 1000 simulator steps collected; None: 0.6 for each row, so that a task whose actions
    # last two steps learns twice as often as one where they last four.
    updates: Annotated[float | None, more_than(0)] = None
    # Episodes collected in step, planned for at once, with the same weights.
    together: Annotated[int, at_least(1)] = 1
    seed_actions: Literal["wander", "uniform"] = "wander"  # that noise alone, or fresh at each row
    # Standard deviation added to the planned action while collecting; where the action is one of
    # several choices, the probability that it is drawn at random instead.
    noise: Annotated[float, at_least(0)] = 0.3
    # How much of the noise survives a row. White noise averages out before anything moves: over 25
    # random episodes of ball_in_cup_catch it scored 21, this 102; on finger_spin 1 against 7.
    noise_memory: Annotated[float, at_least(0, below=1)] = 0.8
    # How far its size wanders: a standard deviation of the logarithm. Around a policy that has
    # settled small noise finds nothing new: walker_stand sat (assets/walker_stand_noise.csv).
    noise_swell: Annotated[float, at_least(0)] = 1.0
    evaluate_every: Annotated[int, at_least(1)] = 10_000  # simulator steps
    evaluate_episodes: Annotated[int, at_least(1)] = 5
    # The collecting process hangs if it gives no row for so long, and is replaced. A first start
    # that compiles a renderer takes a minute on a slow machine.
    patience_s: Annotated[float, more_than(0)] = 300.0


@dataclass(frozen=True)
class Config:
    task: str = "cartpole_swingup"
    seed: Annotated[int, at_least(0)] = 0
    discount_rate: Annotated[float, more_than(0, at_most=1)] = 0.99  # of a reward one row later
    env: EnvConfig = EnvConfig()
    replay: ReplayConfig = ReplayConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    imagination: ImaginationConfig = ImaginationConfig()
    learner: LearnerConfig = LearnerConfig()
    planner: PlannerSettings = MPPI()
    planning: Planning = Planning()
    loop: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        check(self)
        planner, planning = self.planner, self.planning
        require(
            planning.proposals < planner.candidates,
            f"planning.proposals: expected fewer than planner.candidates = {planner.candidates},"
            f" got {planning.proposals}",
        )
        require(
            not isinstance(planner, MPPI) or planning.std_without_policy >= planner.min_std,
            "planning.std_without_policy: expected at least planner.min_std, the smallest that the"
            f" search goes to, got {planning.std_without_policy}",
        )
        complaint = self.wrong_image_size(self.env.image_size)
        require(not complaint, f"env.image_size: {complaint}")

    def wrong_image_size(self, size: int) -> str:
        """Empty where encoder and decoder take square images with a side of ``size``."""
        for part, settings in (("encoder", self.model.encoder), ("decoder", self.model.decoder)):
            if takes := settings.wrong_size(size):
                return f"the {settings.kind} {part} takes {takes}, got {size}"
        return ""
