"""The folder of an export: two graphs, a description of their inputs, and a runner."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.export import runner
from worldmodel.export.compression import compress
from worldmodel.export.graphs import Graphs


@dataclass(frozen=True)
class Exported:
    """A written export."""

    path: Path
    graph_bytes: int  # of both graphs
    zeros: float  # share of zeros among their numbers, biases and norms included


def require_free(folder: Path) -> None:
    """Raise unless ``folder`` is absent, empty, or an export, which the next one replaces."""
    if folder.exists() and not (folder / runner.ABOUT).is_file() and any(folder.iterdir()):
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
        for name in ("observe", "plan"):
            model = getattr(graphs, name)
            model = compress(model) if bits == 8 else model
            content: bytes = model.SerializeToString(deterministic=True)
            content = gzip.compress(content, mtime=0) if smaller else content
            file = f"{name}.onnx.gz" if smaller else f"{name}.onnx"
            files.write_new(new / file, content)
            sha256 = hashlib.sha256(content).hexdigest()
            written[name] = {"file": file, "bytes": len(content), "sha256": sha256}
        about = {
            "format": runner.FORMAT,
            **graphs.about,
            "bits": bits,
            "pruned": prune,
            "graphs": written,
            "made_from": dict(made_from),
        }
        files.write_new(new / runner.ABOUT, (json.dumps(about, indent=1) + "\n").encode())
        files.write_new(new / "runner.py", Path(runner.__file__).read_bytes())
    size = sum(file["bytes"] for file in written.values())
    return Exported(folder, size, _share_of_zeros(graphs))


def _share_of_zeros(graphs: Graphs) -> float:
    from onnx import TensorProto, numpy_helper

    numbers = [
        numpy_helper.to_array(tensor)
        for model in (graphs.observe, graphs.plan)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    ]
    zeros = sum(int((part == 0).sum()) for part in numbers)
    return zeros / sum(int(part.size) for part in numbers)
