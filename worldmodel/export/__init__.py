"""An agent as files that need no torch: graphs, the runner beside them, and smaller weights."""

from worldmodel.export.check import difference
from worldmodel.export.comparison import CHECKED_STEPS, Shown, export, with_planner
from worldmodel.export.compression import compress
from worldmodel.export.folder import Exported, require_free, write
from worldmodel.export.graphs import (
    PLANNERS,
    Drawn,
    Graphs,
    record,
    require_exportable,
    require_libraries,
)
from worldmodel.export.pruning import newest_episodes, pruned
from worldmodel.export.runner import Runner

__all__ = [
    "CHECKED_STEPS",
    "PLANNERS",
    "Drawn",
    "Exported",
    "Graphs",
    "Runner",
    "Shown",
    "compress",
    "difference",
    "export",
    "newest_episodes",
    "pruned",
    "record",
    "require_exportable",
    "require_free",
    "require_libraries",
    "with_planner",
    "write",
]
