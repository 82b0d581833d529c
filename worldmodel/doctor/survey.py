"""Gather the facts of this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel import machine
from worldmodel.doctor.facts import Arithmetic, Drawing, Facts, Trial
from worldmodel.doctor.own_process import alone, ask
from worldmodel.envs.gl import BACKENDS

# Seconds to wait for an answer; warp may have to compile its kernels.
PATIENCE_S = 60
PATIENCE_COMPILING_S = 240


def gather(
    pictures: Path | None = None, announce: Callable[[str], None] = lambda text: None
) -> Facts:
    """Gather all facts, in 15 s to some minutes. ``pictures``: a folder for drawn images."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before the probes raise it
    versions = _installed()
    announce("asking torch")
    arithmetic = ask("examine_arithmetic", PATIENCE_S)
    announce("importing the simulator")
    simulator_failure = alone("import mujoco", PATIENCE_S, MUJOCO_GL="disabled").get("failure", "")
    drawings = {}
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    for name in () if simulator_failure else ("warp", *BACKENDS):
        announce(f"drawing with {name}")
        drawings[name] = _try_drawing(name, pictures)
    announce("learning a little")
    trial = ask("try_training", PATIENCE_COMPILING_S)
    ffmpeg = "import imageio_ffmpeg; imageio_ffmpeg.get_ffmpeg_exe()"
    return Facts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
        requirements=_requirements(),
        simulator_failure=simulator_failure,
        ffmpeg_failure=alone(ffmpeg, PATIENCE_S).get("failure", ""),
        mujoco_gl=os.environ.get("MUJOCO_GL", "").lower(),
        has_display=any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")),
        drawings=drawings,
        arithmetic=Arithmetic(**{k: _frozen(v) for k, v in arithmetic.items()}),
        trial=Trial(**trial),
        gpus=_gpus(),
        cores=machine.allowed_cores(),
        quota_cores=machine.quota_cores(machine.QUOTA),
        load=load,
        memory_gb=_memory_gb(Path("/proc/meminfo"), Path("/sys/fs/cgroup")),
        disk_gb=shutil.disk_usage(".").free / 1e9,
        folder=os.getcwd(),
        folder_failure=_folder_failure("."),
    )


def _installed() -> dict[str, str]:
    """The versions of all installed packages, by normalised name."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a package that was only partly removed has none
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return versions


def _requirements() -> tuple[str, ...]:
    try:
        return tuple(importlib.metadata.requires("worldmodel") or ())
    except importlib.metadata.PackageNotFoundError:  # not installed: it runs from its folder
        return ()


def _try_drawing(name: str, pictures: Path | None) -> Drawing:
    picture = "" if pictures is None else str((pictures / f"{name}.png").absolute())
    surroundings = {} if name == "warp" else {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": ""}
    patience = PATIENCE_COMPILING_S if name == "warp" else PATIENCE_S
    return Drawing(**ask("try_drawing", patience, name, picture, **surroundings))


def _gpus() -> tuple[str, ...]:
    """The names of GPUs from their driver, because torch may be built without CUDA."""
    if shutil.which("nvidia-smi") is None:
        return ()
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(said.stdout.split("\n")[:-1]) if said.returncode == 0 else ()


def _memory_gb(meminfo: Path, group: Path) -> float | None:
    """Free memory of the machine or, if less, what the limit of a container leaves."""
    free = []
    with contextlib.suppress(OSError):
        free += [1024 * int(kb) for kb in re.findall(r"MemAvailable: *(\d+)", meminfo.read_text())]
    with contextlib.suppress(OSError, ValueError):  # ValueError: max, no limit
        limit = int((group / "memory.max").read_text())
        kept = int((group / "memory.current").read_text())
        cached = re.findall(r"inactive_file (\d+)", (group / "memory.stat").read_text())
        free.append(limit - kept + sum(map(int, cached)))  # memory of cached files counts as free
    return min(free) / 1e9 if free else None


def _folder_failure(folder: str) -> str:
    """Try to write, because permissions do not show a read-only or a full disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
