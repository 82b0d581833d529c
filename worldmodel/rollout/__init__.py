"""Playing episodes: to collect experience, and to evaluate."""

from worldmodel.rollout.collector import Collector, InlineCollector, Job, JobDone, ProcessCollector
from worldmodel.rollout.play import (
    BadEpisodeError,
    Evaluated,
    Played,
    collect,
    evaluate,
    play_constant,
)

__all__ = [
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
]
