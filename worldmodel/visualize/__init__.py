"""What the model sees, predicts and gets wrong, as pictures, a video and numbers.

::

    summary = visualize_run(agent, Path("runs/default-toy-0"))
    print(summary)       # open-loop at 10 steps: model ..., hold-last ..., mean image ...

Every picture and number is also a function that returns it, for a notebook. Importing this loads
no plotting and no video.
"""

from worldmodel.visualize.errors import HorizonErrors, RewardFit, measure
from worldmodel.visualize.figures import plot_curves, plot_errors, plot_reward
from worldmodel.visualize.folder import Summary, visualize, visualize_run
from worldmodel.visualize.predictions import Prediction, cut, observe, predict, spread
from worldmodel.visualize.strips import draw_open_loop, draw_reconstructions, draw_video

__all__ = [
    "HorizonErrors",
    "Prediction",
    "RewardFit",
    "Summary",
    "cut",
    "draw_open_loop",
    "draw_reconstructions",
    "draw_video",
    "measure",
    "observe",
    "plot_curves",
    "plot_errors",
    "plot_reward",
    "predict",
    "spread",
    "visualize",
    "visualize_run",
]
