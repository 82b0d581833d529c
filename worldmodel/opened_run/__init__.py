"""Open a run to look at it, for example in a notebook: arrays with named axes, and figures.

::

    run = worldmodel.open_run("runs/default-toy-0")
    print(run)                       # Run(toy, 20,000 env steps, best score 71.2, 10 held-out ...
    print(run.predict(0))            # the record's arrays: names, shapes, axes
    run.figure("errors")

The numbers are those of the report, because both come from ``worldmodel.analysis``.
"""

from worldmodel.opened_run.heldout import Heldout
from worldmodel.opened_run.pictures import FIGURES
from worldmodel.opened_run.records import (
    DistanceErrors,
    EpisodePrediction,
    HeldoutEpisode,
    Latents,
    Metrics,
    Numbers,
    Plans,
    ProbeScores,
    Scores,
)
from worldmodel.opened_run.run import Run, open_run

__all__ = [
    "FIGURES",
    "DistanceErrors",
    "EpisodePrediction",
    "Heldout",
    "HeldoutEpisode",
    "Latents",
    "Metrics",
    "Numbers",
    "Plans",
    "ProbeScores",
    "Run",
    "Scores",
    "open_run",
]
