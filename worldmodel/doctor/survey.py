"""Gather the facts of this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import worldmodel
from worldmodel import machine
from worldmodel.doctor import drawing
from worldmodel.doctor.facts import TASK, Arithmetic, Drawing, Facts, Trial
from worldmodel.doctor.namesakes import namesakes
from worldmodel.doctor.own_process import alone, ask, begun, call_of
from worldmodel.envs.gl import BACKENDS

# Seconds to wait for an answer; warp may have to compile its kernels.
PATIENCE_S = 60
PATIENCE_COMPILING_S = 240


def gather(pictures: Path | None = None, *, quick: bool = False) -> Generator[Facts, None, None]:
    """Yield the facts of this machine, more of them after each probe; the last are complete.

    ``pictures``: a folder for drawn images. ``quick``: leave the short training out.
    """
    facts = _known_at_once(quick)
    yield facts
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    with _training(quick) as answer:
        arithmetic = ask("examine_arithmetic", PATIENCE_S)
        known = Arithmetic(**{name: _frozen(value) for name, value in arithmetic.items()})
        facts = replace(facts, arithmetic=known)
        yield facts
        for name in facts.drawings:
            drawn = {**facts.drawings, name: _try_drawing(name, pictures)}
            facts = replace(facts, drawings=drawn)
            yield facts
        if not quick:
            yield replace(facts, trial=Trial(**answer()))


@contextlib.contextmanager
def _training(quick: bool) -> Iterator[Callable[[], dict[str, Any]]]:
    """Begin the short training, and give a function that waits for its facts.

    It takes as long as all other probes together, so on two cores both go on at the same time. On
    one core each would slow the other, and their times would be wrong.
    """
    if quick or machine.cores() < 2:
        yield partial(ask, "try_training", PATIENCE_COMPILING_S)
    else:
        with begun(call_of("try_training"), PATIENCE_COMPILING_S) as answer:
            yield answer


def _known_at_once(quick: bool) -> Facts:
    """The facts that take less than a second."""
    load = machine.load()  # before the probes raise it
    simulator_failure = alone("import mujoco", PATIENCE_S, MUJOCO_GL="disabled").get("failure", "")
    ffmpeg = "import imageio_ffmpeg; imageio_ffmpeg.get_ffmpeg_exe()"
    return Facts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions=_installed(),
        requirements=_requirements(),
        namesakes=namesakes(Path(worldmodel.__file__)),
        source=_source(),
        simulator_failure=simulator_failure,
        ffmpeg_failure=alone(ffmpeg, PATIENCE_S).get("failure", ""),
        mujoco_gl=os.environ.get("MUJOCO_GL", "").lower(),
        has_display=any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")),
        drawings={} if simulator_failure else dict.fromkeys(("warp", *BACKENDS)),
        arithmetic=None,
        trial=None,
        quick=quick,
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


def _source() -> str:
    """What pip installs worldmodel from: the folder or address that it was installed from."""
    try:
        text = importlib.metadata.distribution("worldmodel").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return "."
    origin = json.loads(text) if text else {}
    url = str(origin.get("url", "worldmodel")).removeprefix("file://")
    editable = origin.get("dir_info", {}).get("editable")
    return f"-e {shlex.quote(url)}" if editable else shlex.quote(url)


def _try_drawing(name: str, pictures: Path | None) -> Drawing:
    picture = "" if pictures is None else str((pictures / f"{name}.png").absolute())
    if name == "warp":
        return Drawing(**ask("try_warp", PATIENCE_COMPILING_S, picture))
    code = (
        "import json, runpy\n"
        f"draw = runpy.run_path({drawing.__file__!r})['draw_with_opengl']\n"
        f"print(); print(json.dumps(draw({TASK!r}, {picture!r})))"
    )
    return Drawing(**alone(code, PATIENCE_S, MUJOCO_GL=name, PYOPENGL_PLATFORM=""))


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
