"""Measure a model: its predictions, errors, plans and latent states, as numbers, not as pictures.

::

    source = read_source(Path("runs/default-toy-0"))
    episodes = list(source.heldout.values())
    errors = measure(agent, episodes, mean_image(agent, episodes, source.run))
    errors.at(10).model, errors.at(10).hold_last       # mean squared errors, ten rows ahead
"""

from worldmodel.analysis.errors import (
    WINDOWS,
    HorizonErrors,
    RewardFit,
    fit_reward,
    long_enough,
    mean_of,
    measure,
    psnr,
    r_squared,
)
from worldmodel.analysis.futures import (
    Alternatives,
    Course,
    Futures,
    follow,
    sample_futures,
    try_alternatives,
)
from worldmodel.analysis.latents import FEWEST_EPISODES, Map, Probe, map_latents, probe
from worldmodel.analysis.marks import Followed, follow_pixel
from worldmodel.analysis.plans import (
    Moment,
    PlanReturns,
    PlansMade,
    compare_returns,
    look_into,
    recorded,
)
from worldmodel.analysis.predictions import (
    AHEAD,
    CONTEXT,
    Prediction,
    TruthAndModel,
    check_fit,
    decode,
    image_change,
    observe,
    predict,
    spread,
)
from worldmodel.analysis.source import Source, mean_image, read_source
from worldmodel.analysis.truth import NoTruthError, States, angles, name_parts, true_states

__all__ = [
    "AHEAD",
    "CONTEXT",
    "FEWEST_EPISODES",
    "WINDOWS",
    "Alternatives",
    "Course",
    "Followed",
    "Futures",
    "HorizonErrors",
    "Map",
    "Moment",
    "NoTruthError",
    "PlanReturns",
    "PlansMade",
    "Prediction",
    "Probe",
    "RewardFit",
    "Source",
    "States",
    "TruthAndModel",
    "angles",
    "check_fit",
    "compare_returns",
    "decode",
    "fit_reward",
    "follow",
    "follow_pixel",
    "image_change",
    "long_enough",
    "look_into",
    "map_latents",
    "mean_image",
    "mean_of",
    "measure",
    "name_parts",
    "observe",
    "predict",
    "probe",
    "psnr",
    "r_squared",
    "read_source",
    "recorded",
    "sample_futures",
    "spread",
    "true_states",
    "try_alternatives",
]
