"""What the model sees, predicts, plans and gets wrong, as pictures, a video, numbers and a page.

::

    summary = visualize_run(agent, Path("runs/default-toy-0"))
    print(summary)       # open-loop at 10 steps: model ..., hold-last ..., mean image ...

Every picture and number is also a function that returns it, for a notebook. Importing this loads
no plotting and no video.
"""

from worldmodel.visualize.errors import HorizonErrors, RewardFit, measure
from worldmodel.visualize.figures import (
    darken,
    plot_curves,
    plot_errors,
    plot_map,
    plot_probes,
    plot_returns,
    plot_reward,
    plot_search,
    plot_sensors,
)
from worldmodel.visualize.latents import Map, Probe, map_latents, probe
from worldmodel.visualize.page import write_page
from worldmodel.visualize.plans import Moment, PlanReturns, compare_returns, look_into
from worldmodel.visualize.predictions import Prediction, cut, observe, predict, spread
from worldmodel.visualize.report import Summary, visualize, visualize_run
from worldmodel.visualize.source import Source, read_source
from worldmodel.visualize.strips import (
    draw_open_loop,
    draw_plans,
    draw_reconstructions,
    draw_video,
)
from worldmodel.visualize.truth import NoTruthError, true_states

__all__ = [
    "HorizonErrors",
    "Map",
    "Moment",
    "NoTruthError",
    "PlanReturns",
    "Prediction",
    "Probe",
    "RewardFit",
    "Source",
    "Summary",
    "compare_returns",
    "cut",
    "darken",
    "draw_open_loop",
    "draw_plans",
    "draw_reconstructions",
    "draw_video",
    "look_into",
    "map_latents",
    "measure",
    "observe",
    "plot_curves",
    "plot_errors",
    "plot_map",
    "plot_probes",
    "plot_returns",
    "plot_reward",
    "plot_search",
    "plot_sensors",
    "predict",
    "probe",
    "read_source",
    "spread",
    "true_states",
    "visualize",
    "visualize_run",
    "write_page",
]
