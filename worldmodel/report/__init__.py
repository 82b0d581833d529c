"""The report of a model: pictures, a video, tables, and one page that holds them all.

::

    summary = visualize_run(agent, Path("runs/default-toy-0"))
    print(summary)       # open-loop at 10 steps: model ..., hold-last ..., mean image ...

For a notebook, each picture has a function that returns it: ``plot_*`` a chart, ``draw_*`` a film
or a strip: ``draw_strip(strip_open_loop(prediction))``. Importing this package loads no
plotting library and no video library. The numbers come from ``worldmodel.analysis``.
"""

from worldmodel.report.compose import Summary, visualize, visualize_run
from worldmodel.report.figures import (
    darken,
    plot_course,
    plot_curves,
    plot_decision,
    plot_errors,
    plot_map,
    plot_probes,
    plot_returns,
    plot_reward,
    plot_vectors,
)
from worldmodel.report.films import draw_alternatives, draw_film
from worldmodel.report.page import write_page
from worldmodel.report.strips import (
    draw_strip,
    strip_alternatives,
    strip_futures,
    strip_open_loop,
    strip_plans,
    strip_reconstructions,
)

__all__ = [
    "Summary",
    "darken",
    "draw_alternatives",
    "draw_film",
    "draw_strip",
    "plot_course",
    "plot_curves",
    "plot_decision",
    "plot_errors",
    "plot_map",
    "plot_probes",
    "plot_returns",
    "plot_reward",
    "plot_vectors",
    "strip_alternatives",
    "strip_futures",
    "strip_open_loop",
    "strip_plans",
    "strip_reconstructions",
    "visualize",
    "visualize_run",
    "write_page",
]
