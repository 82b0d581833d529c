"""The folder of an export: graphs, a description of their inputs, and a runner."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.export.compression import compress
from worldmodel.export.graphs import Graphs
from worldmodel.export.onnx_graph import ABOUT, FORMAT

HOUSE = Path(__file__).parents[1]
# The files that travel with the graphs, under a name of their own: a robot may have another version
# of the package. They need numpy and onnxruntime only.
CARRIED = (
    *(f"{name}.py" for name in ("columns", "files", "images", "limits", "machine", "origin")),
    *("processes.py", "timing.py"),
    *(
        f"export/{name}.py"
        for name in ("imagined", "inputs", "made", "onnx_graph", "planning", "runner", "search")
    ),
    *sorted(str(path.relative_to(HOUSE)) for path in (HOUSE / "robot").glob("*.py")),
)
CARRIED_NAME = "worldmodel_robot"
DOOR = "export/robot_door.py"  # becomes runner.py


@dataclass(frozen=True)
class Exported:
    """A written export."""

    path: Path
    graph_bytes: int  # of all graphs
    zeros: float  # share of zeros among their numbers, biases and norms included


def require_free(folder: Path) -> None:
    """Raise unless ``folder`` is absent, empty, or an export, which the next one replaces."""
    if folder.exists() and not (folder / ABOUT).is_file() and any(folder.iterdir()):
        raise ConfigError(
            f"out: {folder} holds something else than an export; choose another --out"
        )


def write(
    graphs: Graphs,
    folder: Path,
    *,
    made_from: Mapping[str, Any],
    bits: int = 32,
    prune: float = 0.0,
) -> Exported:
    """Write the folder as a whole, or nothing; it replaces an older export.

    ``made_from`` (which run, which versions) and ``prune`` (the share of weights that were made
    zero before) are written for people. Pruned or 8-bit graphs are zipped: only a zipped file is
    smaller for its zeros.
    """
    require_free(folder)
    smaller = bits < 32 or prune > 0
    with files.replacing_folder(folder) as new:
        written: dict[str, dict[str, Any]] = {}
        for name, model in graphs.models.items():
            model = compress(model) if bits == 8 else model
            content: bytes = model.SerializeToString(deterministic=True)
            content = gzip.compress(content, mtime=0) if smaller else content
            file = f"{name}.onnx.gz" if smaller else f"{name}.onnx"
            files.write_new(new / file, content)
            sha256 = hashlib.sha256(content).hexdigest()
            written[name] = {"file": file, "bytes": len(content), "sha256": sha256}
        about = {
            "format": FORMAT,
            **graphs.about,
            "bits": bits,
            "pruned": prune,
            "graphs": written,
            "made_from": dict(made_from),
        }
        files.write_new(new / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
        _write_runner(new)
    size = sum(file["bytes"] for file in written.values())
    return Exported(folder, size, _share_of_zeros(graphs))


def _write_runner(folder: Path) -> None:
    """Copy the package's files that a robot needs, and ``runner.py``, which imports them."""
    package = folder / CARRIED_NAME
    for name in CARRIED:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_new(package / name, _renamed(HOUSE / name))
    for own in (package, package / "export"):
        words = '"""The part of worldmodel that runs an exported agent."""\n'
        files.write_new(own / "__init__.py", words.encode())
    files.write_new(folder / "runner.py", _renamed(HOUSE / DOOR))


def _renamed(path: Path) -> bytes:
    """The source of a file, with imports from the package's other name."""
    source = re.sub(r"(?m)^(\s*from) worldmodel\b", rf"\1 {CARRIED_NAME}", path.read_text())
    return source.encode()


def _share_of_zeros(graphs: Graphs) -> float:
    from onnx import TensorProto, numpy_helper

    numbers = [
        numpy_helper.to_array(tensor)
        for model in graphs.models.values()
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    ]
    zeros = sum(int((part == 0).sum()) for part in numbers)
    return zeros / sum(int(part.size) for part in numbers)
