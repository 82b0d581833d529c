"""Export: an agent as ONNX graphs with a runner, which need no torch; weights may be smaller."""

from worldmodel.export.check import difference
from worldmodel.export.comparison import CHECKED_STEPS, Comparison, export, with_planner
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
    "Comparison",
    "Drawn",
    "Exported",
    "Graphs",
    "Runner",
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
