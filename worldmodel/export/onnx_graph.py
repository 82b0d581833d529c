"""The files of an export as the runner reads them: the description, and graphs of onnxruntime."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 3  # of the folder; a runner refuses others
ABOUT = "export.json"

Floats = NDArray[np.float32]


class Graph:
    """One ONNX file: arrays go in as ``in.name``, and come out as ``out.name``."""

    def __init__(self, folder: Path, file: Mapping[str, Any], threads: int) -> None:
        import onnxruntime

        path = folder / file["file"]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise RuntimeError(f"{path}: its content has changed (sha256); export it again")
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        self._session = onnxruntime.InferenceSession(
            content, session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._inputs = [part.name for part in self._session.get_inputs()]
        self._outputs = [part.name for part in self._session.get_outputs()]

    def __call__(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
        feed = {name: arrays[name.removeprefix("in.")] for name in self._inputs}
        found = self._session.run(self._outputs, feed)
        names = (name.removeprefix("out.") for name in self._outputs)
        return dict(zip(names, found, strict=True))


def session_options(threads: int) -> Any:
    """Options with which 8-bit weights become floats once, while loading.

    By default onnxruntime would round the activations too, and multiply integers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def read_about(folder: Path) -> dict[str, Any]:
    """The description of an export."""
    path = folder / ABOUT
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {ABOUT}, so it is not an exported agent")
    about: dict[str, Any] = json.loads(path.read_text())
    if about["format"] != FORMAT:
        raise ValueError(
            f"{path}: written in format {about['format']}, this runner reads {FORMAT}; use the"
            " runner.py of its own folder, or export the agent again"
        )
    return about
