"""The report of a model: pictures, a video, tables, and one page that holds them all.

::

    summary = visualize_run(agent, Path("runs/default-toy-0"))
    print(summary)       # open-loop at 10 steps: model ..., hold-last ..., mean image ...

For a notebook, each picture has a function that returns it. Importing this package loads no
plotting library and no video library. The numbers come from ``worldmodel.analysis``.
"""

from worldmodel.report.compose import Summary, visualize, visualize_run
from worldmodel.report.figures import (
    darken,
    plot_curves,
    plot_errors,
    plot_map,
    plot_probes,
    plot_returns,
    plot_reward,
    plot_search,
    plot_vectors,
)
from worldmodel.report.page import write_page
from worldmodel.report.strips import (
    draw_open_loop,
    draw_plans,
    draw_reconstructions,
    draw_video,
)

__all__ = [
    "Summary",
    "darken",
    "draw_open_loop",
    "draw_plans",
    "draw_reconstructions",
    "draw_video",
    "plot_curves",
    "plot_errors",
    "plot_map",
    "plot_probes",
    "plot_returns",
    "plot_reward",
    "plot_search",
    "plot_vectors",
    "visualize",
    "visualize_run",
    "write_page",
]
