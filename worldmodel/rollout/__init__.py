"""Playing episodes: to collect experience, and to evaluate."""

from worldmodel.rollout.collector import (
    EVALUATION_SEED,
    Collector,
    InlineCollector,
    Job,
    JobDone,
    ProcessCollector,
)
from worldmodel.rollout.play import (
    BadEpisodeError,
    Evaluated,
    Played,
    collect,
    evaluate,
    play_constant,
    play_random,
    play_wandering,
)

__all__ = [
    "EVALUATION_SEED",
    "BadEpisodeError",
    "Collector",
    "Evaluated",
    "InlineCollector",
    "Job",
    "JobDone",
    "Played",
    "ProcessCollector",
    "collect",
    "evaluate",
    "play_constant",
    "play_random",
    "play_wandering",
]
