"""Checkpoints: all that a run needs to resume exactly where it stopped, safe from a kill.

A checkpoint is a directory named after its step::

    checkpoints/000001234/model.safetensors    one file for each group of tensors
                          optimizer.safetensors
                          state.json           all that is not a tensor
                          manifest.json        whose weights they are: spec, and kinds of parts;
                                               size and sha256 of each of the others

It is written in a hidden sibling, every byte of it reaches the disk, then it gets its name. The
older ones go only after that. Nothing here is ever pickled, so reading one runs no code::

    save(run / "checkpoints", step, {"model": model.state_dict()}, {"episodes": 12})
    checkpoint = load(run / "checkpoints")
    if checkpoint is not None:
        model.load_state_dict(checkpoint.tensors["model"])
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from worldmodel import files
from worldmodel.checks import ConfigError, require
from worldmodel.models.older_weights import with_todays_names
from worldmodel.structs import Spec

JSON = Any  # None, bool, int, float, str, and lists and dicts of these

KEPT = 2  # whole checkpoints of a run, the newest
FORMAT = 2  # of the directory; a reader refuses newer ones
# Groups of a model's weights. In format 1 they have the names of then, and become today's.
WEIGHTS = ("model", "averaged", "acting")
# A checkpoint's name. One that is about to be replaced by another of the same step steps aside.
NAME = re.compile(r"(\d{9,})(\.replaced)?")

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Made:
    """What weights were made for: None, or a part without a name, fits everything."""

    spec: Spec | None = None
    parts: Mapping[str, str] = field(default_factory=dict)  # kinds: {"dynamics": "recurrent", ...}


ANY = Made()


class BrokenCheckpointError(RuntimeError):
    """Files that are not what was written; the message names them."""


@dataclass(frozen=True)
class Checkpoint:
    step: int
    tensors: dict[str, dict[str, Tensor]]  # by group
    state: dict[str, JSON]
    path: Path
    fallback: str | None = None  # why a newer one was passed over; None: there is no newer one


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, JSON],
    keep: int = KEPT,
    finite: Collection[str] = (),
    made: Made = ANY,
) -> Path:
    """Write a new checkpoint in ``folder``, then remove all but the newest ``keep`` whole ones.

    Those of a later step are removed too: a run that saves step 1000 no longer needs its old step
    2000. ``made``: the body and the parts of the model, which a reader compares with its own.
    Raise RuntimeError, and write nothing, if a number in one of the groups ``finite`` is NaN or
    infinite.
    """
    if keep < 1:
        raise ValueError(f"keep: expected 1 or more, got {keep}")
    for group in tensors:
        if not re.fullmatch(r"\w+", group):
            raise ValueError(f"tensors: expected groups named by letters, got {group!r}")
    if complaint := _not_finite(tensors, finite):
        raise RuntimeError(
            f"{folder}: {complaint}, so no checkpoint was written; the last one is whole: the same"
            " command again goes on from there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _clean(folder)
    path = folder / f"{step:09d}"
    unfinished = files.unfinished(path)
    try:
        unfinished.mkdir()
        sizes_and_sums = {}
        for group, named in tensors.items():
            snapshot = {name: _own(tensor) for name, tensor in named.items()}
            content = safetensors.torch.save(snapshot)
            name = f"{group}.safetensors"
            sizes_and_sums[name] = _write(unfinished / name, content)
        content = json.dumps(dict(state), indent=1).encode()
        sizes_and_sums["state.json"] = _write(unfinished / "state.json", content)
        manifest: dict[str, JSON] = {
            "format": FORMAT,
            "step": step,
            "spec": made.spec and made.spec.to_dict(),
            "parts": dict(made.parts),
            "files": sizes_and_sums,
        }
        manifest["sha256"] = _sum_of(manifest)
        _write(unfinished / "manifest.json", json.dumps(manifest, indent=1).encode())
        files.sync_folder(unfinished)
        if path.exists():
            aside = folder / f"{path.name}.replaced"
            if aside.exists():  # a kill came between the new name and the end of the old one
                files.discard(aside)
            os.replace(path, aside)
        os.replace(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    files.sync_folder(folder)
    _remove_superseded(path, keep)
    return path


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    finite: Collection[str] = (),
    made: Made = ANY,
    group: str | None = None,
) -> Checkpoint | None:
    """Read the newest whole checkpoint of a run; None where none was ever written.

    ``group``: read this group and the state only, of the newest checkpoint with both whole.

    One with a NaN or infinite number in a group of ``finite`` is passed over like a broken one.
    Raise ConfigError, before any weight is read, if it was not ``made`` for this.
    """
    return _read_newest(folder, group, device, finite, made)


def load_group(
    folder: Path, group: str, device: torch.device | str = "cpu", made: Made = ANY
) -> dict[str, Tensor] | None:
    """Read one group of the newest checkpoint in which it and the state are whole, and no more."""
    checkpoint = _read_newest(folder, group, device, made=made)
    return None if checkpoint is None else checkpoint.tensors[group]


def verify(path: Path) -> list[str]:
    """Complaints about one checkpoint, or about each one in a folder of them; empty when whole."""
    complaints = []
    for one in [path] if NAME.fullmatch(path.name) else _candidates(path):
        try:
            _read(one, None, "cpu")
        except BrokenCheckpointError as error:
            complaints.append(str(error))
    return complaints


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Pack all that an optimizer's next step depends on into tensors.

    What is no tensor (learning rates, betas) is JSON in the bytes of the tensor "rest".
    ``unpack_optimizer`` is the inverse.
    """
    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    rest: dict[str, JSON] = {"state": {}, "groups": []}
    for index, values in packed["state"].items():
        rest["state"][str(index)] = _take_tensors(values, f"state.{index}", tensors)
    for index, group in enumerate(packed["param_groups"]):
        rest["groups"].append(_take_tensors(group, f"groups.{index}", tensors))
    tensors["rest"] = torch.tensor(list(json.dumps(rest).encode()), dtype=torch.uint8)
    return tensors


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore an optimizer that was built in the same way."""
    rest = json.loads(bytes(tensors["rest"].tolist()))
    state = {
        int(index): _put_tensors(values, f"state.{index}", tensors)
        for index, values in rest["state"].items()
    }
    groups = [
        _put_tensors(group, f"groups.{index}", tensors)
        for index, group in enumerate(rest["groups"])
    ]
    now = optimizer.state_dict()["param_groups"]
    sizes, expected = ([len(group["params"]) for group in each] for each in (groups, now))
    if sizes != expected:
        raise ValueError(
            f"optimizer: expected parameters in groups of {expected}, got groups of {sizes}"
        )
    for group, current in zip(groups, now, strict=True):
        for name, value in group.items():  # JSON knows no tuples
            if isinstance(current.get(name), tuple):
                group[name] = tuple(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items():  # torch has cast them to the parameter's dtype
        loaded = optimizer.state[parameters[index]]
        for name, value in values.items():
            if isinstance(value, Tensor) and loaded[name].dtype != value.dtype:
                loaded[name] = value.to(loaded[name].device)


def numpy_state(generator: np.random.Generator) -> JSON:
    """The state of a generator, as JSON."""
    return _listed(generator.bit_generator.state)


def set_numpy_state(generator: np.random.Generator, state: JSON) -> None:
    kind = generator.bit_generator.state["bit_generator"]
    if state["bit_generator"] != kind:
        raise ValueError(f"random state: expected {kind}, got {state['bit_generator']}")
    generator.bit_generator.state = state


def _read_newest(
    folder: Path,
    group: str | None,
    device: torch.device | str,
    finite: Collection[str] = (),
    made: Made = ANY,
) -> Checkpoint | None:
    """Read the newest one; skip broken ones with a warning, and those removed in the meantime."""
    looked_at: list[Path] = []
    fallback: str | None = None  # the complaint about the newest
    while (candidates := _candidates(folder)) != looked_at:
        for path in candidates:
            try:
                checkpoint = _read(path, group, device, made)
                if complaint := _not_finite(checkpoint.tensors, finite):
                    raise BrokenCheckpointError(f"{path}: {complaint}")
                return replace(checkpoint, fallback=fallback)
            except BrokenCheckpointError as error:
                if path.exists():
                    logger.warning("%s; trying the one before", error)
                    fallback = fallback or str(error)
        looked_at = candidates
    if looked_at:
        raise RuntimeError(
            f"{folder}: there are checkpoints, but none is whole; restore one from a backup, or"
            " remove the run to start anew"
        )
    return None


def _read(
    path: Path, group: str | None, device: torch.device | str, made: Made = ANY
) -> Checkpoint:
    """Read a checkpoint or one group of it; every byte is checked before it is used."""
    try:
        manifest = _read_manifest(path)
        _refuse_others(path, manifest, made)
        names = list(manifest["files"])
        if group is not None:
            if f"{group}.safetensors" not in names:
                raise RuntimeError(f"{path}: no group {group}; its files: {', '.join(names)}")
            names = [f"{group}.safetensors", "state.json"]
        state: dict[str, JSON] = {}
        tensors: dict[str, dict[str, Tensor]] = {}
        for name in names:
            expected = manifest["files"][name]
            content = (path / name).read_bytes()
            if len(content) != expected["bytes"]:
                raise BrokenCheckpointError(
                    f"{path}: {name}: expected {expected['bytes']} bytes, got {len(content)}"
                )
            if hashlib.sha256(content).hexdigest() != expected["sha256"]:
                raise BrokenCheckpointError(f"{path}: {name}: its content has changed (sha256)")
            if name == "state.json":
                state = json.loads(content)
            else:
                loaded, stem = safetensors.torch.load(content), Path(name).stem
                if manifest["format"] == 1 and stem in WEIGHTS:
                    loaded = with_todays_names(loaded)
                tensors[stem] = {key: t.to(device) for key, t in loaded.items()}
    except OSError as error:
        raise BrokenCheckpointError(f"{path}: {error.strerror}: {error.filename}") from error
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise BrokenCheckpointError(f"{path}: manifest.json: {error!r}") from error
    return Checkpoint(step=_step(path), tensors=tensors, state=state, path=path)


def _read_manifest(path: Path) -> dict[str, JSON]:
    """All of it; format 1 said neither a spec nor parts, and had no sum of its own."""
    manifest: dict[str, JSON] = json.loads((path / "manifest.json").read_bytes())
    if manifest["format"] not in (1, FORMAT):
        raise BrokenCheckpointError(
            f"{path}: written in format {manifest['format']}, this worldmodel reads 1 to {FORMAT}"
        )
    if manifest["step"] != _step(path):
        raise BrokenCheckpointError(f"{path}: manifest.json is of step {manifest['step']}")
    if manifest["format"] == 1:
        return {**manifest, "spec": None, "parts": {}}
    if manifest.pop("sha256") != _sum_of(manifest):
        raise BrokenCheckpointError(f"{path}: manifest.json: its content has changed (sha256)")
    return manifest


def _refuse_others(path: Path, manifest: Mapping[str, JSON], made: Made) -> None:
    """Raise if the weights were made for another body, or for parts of other kinds."""
    pairs = {name: (kind, made.parts.get(name, kind)) for name, kind in manifest["parts"].items()}
    if manifest["spec"] is not None and made.spec is not None:
        asked = made.spec.to_dict()
        if not asked["cameras"]:  # a run that began in an older version does not know its cameras
            asked |= {name: manifest["spec"].get(name) for name in ("fit", "cameras")}
        pairs |= {f"spec.{name}": (was, asked[name]) for name, was in manifest["spec"].items()}
    for name, (was, asked) in pairs.items():
        require(
            was == asked,
            f"{path}: these weights were made with {name} = {was}, and {asked} is asked for; read"
            " them with the settings that they were made with",
        )


def _sum_of(manifest: Mapping[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _not_finite(tensors: Mapping[str, Mapping[str, Tensor]], groups: Collection[str]) -> str:
    """The first tensor of these groups that holds NaN or infinity; empty where none does."""
    for group in groups:
        for name, tensor in tensors.get(group, {}).items():
            broken = int((~torch.isfinite(tensor)).sum())
            if broken:
                return f"{group}: {name}: {broken} of {tensor.numel()} are NaN or infinite"
    return ""


def _candidates(folder: Path) -> list[Path]:
    """All checkpoints, the newest first; of one step, the new one before the replaced one."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_step(path), path.suffix))


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path}: expected a checkpoint, a directory named by its step")
    return int(match[1])


def _looks_whole(path: Path) -> bool:
    """Compare sizes only: reading every old checkpoint at every save would be slow."""
    try:
        sizes = json.loads((path / "manifest.json").read_bytes())["files"]
        return all((path / name).stat().st_size == sizes[name]["bytes"] for name in sizes)
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _remove_superseded(newest: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` whole checkpoints, and those of a later step."""
    kept = 0
    for old in _candidates(newest.parent):
        superseded = _step(old) > _step(newest) or old.name == f"{newest.name}.replaced"
        if not superseded and kept < keep and _looks_whole(old):
            kept += 1
        else:
            files.discard(old)


def _own(tensor: Tensor) -> Tensor:
    """A copy in memory of its own: safetensors refuses views and shared memory."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _write(path: Path, content: bytes) -> dict[str, JSON]:
    """Write a file and return its line in the manifest."""
    files.write_new(path, content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _clean(folder: Path) -> None:
    """Remove what a kill left behind."""
    for path in folder.iterdir():
        if path.name.startswith((files.UNFINISHED, files.DISCARDED)):
            files.remove(path)


def _take_tensors(
    values: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]
) -> dict[str, JSON]:
    """Move the tensors of a flat dictionary into ``tensors``; return what remains."""
    tensors |= {f"{prefix}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    return {k: v for k, v in values.items() if not isinstance(v, Tensor)}


def _put_tensors(
    rest: Mapping[str, JSON], prefix: str, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The dictionary that ``_take_tensors`` took apart, with tensors of its own."""
    taken = {
        key.removeprefix(f"{prefix}."): tensor.clone()
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.")
    }
    return {**rest, **taken}


def _listed(state: Any) -> JSON:
    if isinstance(state, dict):
        return {name: _listed(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
