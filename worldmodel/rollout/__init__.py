"""Playing episodes: to collect experience, to evaluate, and as baselines."""

from worldmodel.rollout.collector import (
    EVALUATION_SEED,
    PLAYING_THREADS,
    Collector,
    InlineCollector,
    Job,
    JobDone,
    ProcessCollector,
    Rows,
)
from worldmodel.rollout.fleet import Fleet
from worldmodel.rollout.noise import Noise
from worldmodel.rollout.pixels import PixelsPlayed, play_to_pixels
from worldmodel.rollout.play import (
    IN_STEP,
    BadEpisodeError,
    Evaluated,
    Played,
    collect,
    evaluate,
    plan_seeds,
    play_constant,
    play_random,
    play_wandering,
)

__all__ = [
    "EVALUATION_SEED",
    "IN_STEP",
    "PLAYING_THREADS",
    "BadEpisodeError",
    "Collector",
    "Evaluated",
    "Fleet",
    "InlineCollector",
    "Job",
    "JobDone",
    "Noise",
    "PixelsPlayed",
    "Played",
    "ProcessCollector",
    "Rows",
    "collect",
    "evaluate",
    "plan_seeds",
    "play_constant",
    "play_random",
    "play_to_pixels",
    "play_wandering",
]
