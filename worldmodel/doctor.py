"""Examines this machine: what works, and the line to type where something does not.

::

    findings = judge(gather())
    print(describe(findings))

Gathering asks; judging only thinks, so that any machine can be made up in a test. What may crash
or hang is asked in a process of its own: its end is an answer too.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.config import Config, ReplayConfig
from worldmodel.envs import make_env
from worldmodel.envs.gl import BACKENDS
from worldmodel.envs.render import INSTALL_GL, INSTALL_WARP, choose, make_renderer
from worldmodel.learner import Learner, choose_precision
from worldmodel.models import WorldModel
from worldmodel.replay import Replay
from worldmodel.rollout import play_random

TASK = "cartpole_swingup"
IMAGE_SIZE, ENLARGED = 64, 4
TIMED_FRAMES, TIMED_S = 50, 0.5  # whichever comes first

# seconds until no answer is the answer; warp may have to compile its kernels
PATIENCE_S = 60
PATIENCE_COMPILING_S = 240

BUSY = 0.5  # of the cores, kept by others
LONGEST = 200  # letters of what others say
DISK_GB = 6.5  # 500,000 rows of 64x64 bytes x 3: a million steps at action repeat 2
LEAST_DISK_GB = 0.2
BESIDE_REPLAY_GB = 2.0  # memory of two processes with torch and the simulator

# pip's own upgrade to mujoco 4, and back, leaves a folder that cannot be imported
REINSTALL_MUJOCO = (
    "pip uninstall -y mujoco mujoco-core mujoco-studio && pip install 'mujoco>=3.17,<4'"
)
REINSTALL_WARP = INSTALL_WARP.replace("install", "install --force-reinstall --no-deps", 1)
REINSTALL_TORCH = "pip install --force-reinstall 'torch>=2.10'"
INSTALL = {
    "mujoco": REINSTALL_MUJOCO,
    "dm-control": "pip install 'dm-control==1.0.50' 'mujoco>=3.17,<4'",  # else it brings mujoco 4
    "mujoco-warp": INSTALL_WARP,
    "warp-lang": INSTALL_WARP,
}
CONFLICTS = (  # package, versions, why
    ("mujoco", ">=4", "dm-control 1.0.50 breaks on mujoco 4"),
    ("torch", "<2.10", "loading weights has known holes there"),
)
WITHOUT = {  # the main job goes on without these
    "imageio": "videos cannot be written",
    "imageio-ffmpeg": "videos are GIF, not mp4",
    "matplotlib": "reports hold no curves",
    "pillow": "reports hold no pictures",
    "mujoco-warp": "OpenGL has to draw, which is slower",
    "warp-lang": "OpenGL has to draw, which is slower",
    "tensorboard": "curves are in metrics.jsonl and the report alone",
    "gymnasium": "tasks named gym:ID are unknown",
}


@dataclass(frozen=True)
class Drawing:
    """What a renderer did when it was asked for images."""

    frames_per_s: float = 0.0  # 0 where it did not draw
    failure: str = ""
    picture: str = ""  # where it is kept, if it was wished for


@dataclass(frozen=True)
class Arithmetic:
    """What torch says of this machine."""

    threads: int = 0
    bfloat16: tuple[str, ...] = ()  # instructions of the processor
    precision: str = ""  # what learning is done in here
    cuda_build: str = ""  # empty where torch was built without
    cuda_devices: tuple[str, ...] = ()
    cuda_failure: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Trial:
    """The main job in small: one episode, one update, one plan, on one thread."""

    renderer: str = ""
    update_ms: float = 0.0
    plan_ms: float = 0.0
    stage: str = "starting"  # the last one begun
    failure: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that is judged."""

    python: str
    system: str
    versions: Mapping[str, str]  # of the packages that are installed
    requirements: tuple[str, ...]  # as worldmodel's own metadata has them
    simulator_failure: str  # why mujoco cannot be imported
    ffmpeg_failure: str
    mujoco_gl: str  # MUJOCO_GL
    has_display: bool
    drawings: Mapping[str, Drawing]  # empty where there is no simulator
    arithmetic: Arithmetic
    trial: Trial
    gpus: tuple[str, ...]  # of the machine, whether or not torch sees them
    cores: int  # this process may use
    quota_cores: float | None  # a container's limit
    load: float  # processes that wanted to run in the last minute
    memory_gb: float | None  # still to be had
    disk_gb: float
    folder: str
    folder_failure: str  # why nothing can be written there


@dataclass(frozen=True)
class Finding:
    """``problem`` keeps the main job from working here; a ``note`` does not."""

    state: Literal["ok", "note", "problem"]
    subject: str
    said: str
    remedy: str = ""  # the line to type


# ---------------------------------------------------------------------------- judging


def judge(facts: Facts) -> list[Finding]:
    """Nothing is asked here, and nothing but ``facts`` is known."""
    return [
        *_judge_packages(facts),
        *_judge_renderers(facts),
        *_judge_arithmetic(facts),
        *_judge_machine(facts),
        *_judge_place(facts),
        *_judge_trial(facts),
    ]


def works(findings: Sequence[Finding]) -> bool:
    """The main job: a task is made, drawn and learned, and its run can be written here."""
    return all(finding.state != "problem" for finding in findings)


def _blame(facts: Facts) -> Literal["note", "problem"]:
    """What is wrong is a problem only where the main job fails."""
    return "problem" if facts.trial.failure else "note"


def _judge_packages(facts: Facts) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{facts.python}, {facts.system}")
    fitting = []
    for requirement in facts.requirements:
        name, versions, extra = _read_requirement(requirement)
        version = facts.versions.get(name)
        if extra == "test":  # for those who change worldmodel itself
            continue
        if version and name == "mujoco" and facts.simulator_failure:
            first, _, _ = facts.simulator_failure.partition(". ")  # the rest leads to mujoco 4
            said = f"{version} cannot be imported: {_split(first)[0]}"
            yield Finding(_blame(facts), name, said, REINSTALL_MUJOCO)
            continue
        if version and fits(version, versions):
            fitting.append(f"{name} {version}")
            continue
        remedy = INSTALL.get(name, f"pip install {shlex.quote(name + versions)}")
        state = "note" if name in WITHOUT or extra else _blame(facts)
        if version is None:
            without = WITHOUT.get(name, f"the extra {extra} needs it" if extra else "")
            yield Finding(state, name, "; ".join(filter(None, ("missing", without))), remedy)
        else:
            whys = [why for who, bad, why in CONFLICTS if who == name and fits(version, bad)]
            why = whys[0] if whys else f"worldmodel is made for {versions}"
            yield Finding(state, name, f"{version}: {why}", remedy)
    if not facts.requirements:
        yield Finding("note", "packages", "worldmodel itself is not installed", "pip install -e .")
    elif fitting:
        yield Finding("ok", "packages", ", ".join(fitting))
    if facts.ffmpeg_failure and "imageio-ffmpeg" in facts.versions:
        said = f"mp4 cannot be written, GIF can: {_split(facts.ffmpeg_failure)[0]}"
        remedy = "pip install --force-reinstall imageio-ffmpeg"
        yield Finding("note", "ffmpeg", said, remedy)
    elif "imageio-ffmpeg" in facts.versions:
        yield Finding("ok", "ffmpeg", "videos can be mp4")


def _judge_renderers(facts: Facts) -> Iterator[Finding]:
    """One is enough. Where none draws, warp is the one to mend: it needs no system's package."""
    drawn = _drawn(facts)
    opengl = [name for name in BACKENDS if name in drawn]
    for name, drawing in facts.drawings.items():
        subject = name if name == "warp" else f"gl/{name}"
        if name in drawn:
            kept = f"; {drawing.picture}" if drawing.picture else ""
            said = f"draws {drawing.frames_per_s:,.0f} images of 64x64 a second{kept}"
            yield Finding("ok", subject, said)
        elif name == "warp":
            yield _judge_warp(facts, drawing)
        else:
            said = f"does not draw: {_why_no_opengl(facts, name)}"
            if opengl:
                said += f"; {opengl[0]} does, which is enough"
            elif "warp" in drawn:
                said += "; only who wants the published look needs it"
            wanted = name == "egl" and not opengl and not _simulator_is_wrong(facts)
            yield Finding("note", subject, said, INSTALL_GL if wanted else "")
    if not facts.drawings:
        yield Finding("note", "renderers", "none was tried, for the simulator is not there")
    blame = _blame(facts) if opengl and "warp" not in drawn else "note"
    if facts.mujoco_gl and facts.mujoco_gl not in BACKENDS:
        said = f"{facts.mujoco_gl} is none of {', '.join(BACKENDS)}: OpenGL cannot be used"
        yield Finding(blame, "MUJOCO_GL", said, "unset MUJOCO_GL")
    elif facts.mujoco_gl and opengl and facts.mujoco_gl not in opengl:
        said = f"asks for {facts.mujoco_gl}, which does not draw; {opengl[0]} does"
        yield Finding(blame, "MUJOCO_GL", said, "unset MUJOCO_GL")


def _drawn(facts: Facts) -> set[str]:
    """The renderers that work."""
    return {name for name, drawing in facts.drawings.items() if drawing.frames_per_s}


def _why_no_opengl(facts: Facts, name: str) -> str:
    failure = facts.drawings[name].failure
    if name == "glfw" and not facts.has_display:
        return "it needs a display, and there is none"
    # PyOpenGL calls functions of a library that it has not found
    if re.search("'NoneType' object has no attribute '(egl|gl|OSMesa)", failure):
        return "its library is not installed"
    return _split(failure)[0]


def _judge_warp(facts: Facts, drawing: Drawing) -> Finding:
    said, remedy = _split(drawing.failure)
    if "[Errno" in said:
        remedy = "export WARP_CACHE_PATH=/tmp/warp"  # its kernels have no place
    elif not remedy and not _simulator_is_wrong(facts):
        remedy = REINSTALL_WARP
    return Finding(_blame(facts), "warp", f"does not draw: {said}", remedy)


def _simulator_is_wrong(facts: Facts) -> bool:
    """Then the renderers are not to blame."""
    missing = not {"mujoco", "dm-control"} <= set(facts.versions)
    return missing or bool(facts.simulator_failure) or fits(facts.versions["mujoco"], ">=4")


def _judge_arithmetic(facts: Facts) -> Iterator[Finding]:
    arithmetic = facts.arithmetic
    if arithmetic.failure:
        said = f"fails: {_split(arithmetic.failure)[0]}"
        yield Finding(_blame(facts), "torch", said, REINSTALL_TORCH)
        return
    names = ", ".join(arithmetic.bfloat16) or "no instructions for it"
    slower = ", which takes longer" if arithmetic.precision == "float32" else ""
    said = f"{names}: the processor learns in {arithmetic.precision}{slower}"
    yield Finding("ok", "bfloat16", said)
    seen, there = ", ".join(arithmetic.cuda_devices), ", ".join(facts.gpus)
    if arithmetic.cuda_devices and not arithmetic.cuda_failure:
        yield Finding("ok", "gpu", f"{seen}; train --device cuda learns on it")
    elif arithmetic.cuda_devices:
        said = f"{seen} is seen, but does not compute: {_split(arithmetic.cuda_failure)[0]}"
        yield Finding("note", "gpu", said, REINSTALL_TORCH)
    elif there and not arithmetic.cuda_build:
        said = (
            f"{there} is idle: torch {facts.versions.get('torch')} is built for processors alone;"
            " on Linux the usual one is not, elsewhere ask pytorch.org/get-started"
        )
        yield Finding("note", "gpu", said, REINSTALL_TORCH)
    elif there:
        old = f"its driver may be too old for CUDA {arithmetic.cuda_build}"
        why = _split(arithmetic.cuda_failure or old)[0]
        yield Finding("note", "gpu", f"{there}, but torch does not see it: {why}", "nvidia-smi")
    else:
        yield Finding("ok", "gpu", "none, and none is needed")


def _judge_machine(facts: Facts) -> Iterator[Finding]:
    threads = f", torch takes {_count(facts.arithmetic.threads, 'thread')}"
    if facts.quota_cores is not None and facts.quota_cores < facts.cores:
        whole = max(1, int(facts.quota_cores))
        said = (
            f"{facts.cores} are seen, but a limit allows {facts.quota_cores:g}{threads}:"
            " threads will wait for each other"
        )
        cores = "0" if whole == 1 else f"0-{whole - 1}"
        yield Finding("note", "cores", said, f"taskset -c {cores} worldmodel train {TASK}")
    else:
        yield Finding("ok", "cores", f"{facts.cores}{threads}")
    if facts.load > BUSY * facts.cores:
        said = (
            f"{facts.load:.1f} on {_count(facts.cores, 'core')}: other work runs here, so all is"
            " slower than it could be"
        )
        yield Finding("note", "load", said, "top")
    else:
        yield Finding("ok", "load", f"{facts.load:.1f} on {_count(facts.cores, 'core')}")
    if facts.memory_gb is None:
        return
    wanted = ReplayConfig().memory_gb
    if facts.memory_gb < wanted + BESIDE_REPLAY_GB:
        less = max(0.1, facts.memory_gb - BESIDE_REPLAY_GB)
        said = f"{facts.memory_gb:.1f} GB are free; a long run keeps {wanted:g} GB of episodes"
        remedy = f"worldmodel train {TASK} --replay.memory_gb {less:.1f}"
        yield Finding("note", "memory", said, remedy)
    else:
        yield Finding("ok", "memory", f"{facts.memory_gb:.1f} GB are free")


def _judge_place(facts: Facts) -> Iterator[Finding]:
    elsewhere = f"worldmodel train {TASK} --run /another/place/run"
    if facts.folder_failure:
        said = f"cannot write in {facts.folder}: {facts.folder_failure}"
        yield Finding("problem", "folder", said, elsewhere)
    else:
        yield Finding("ok", "folder", f"{facts.folder} can be written in")
    free = f"{facts.disk_gb:,.1f} GB are free"
    if facts.disk_gb < LEAST_DISK_GB:
        yield Finding("problem", "disk", f"{free}, too little for a run", elsewhere)
    elif facts.disk_gb < DISK_GB:
        said = f"{free}; a run of a million steps takes up to {DISK_GB:g} GB"
        yield Finding("note", "disk", said, elsewhere)
    else:
        yield Finding("ok", "disk", free)


def _judge_trial(facts: Facts) -> Iterator[Finding]:
    trial = facts.trial
    if trial.failure:
        said, remedy = _split(trial.failure)
        drawn = _drawn(facts)
        if not remedy and drawn and "warp" not in drawn:
            remedy = f"worldmodel train {TASK} --env.renderer gl"
        above = [facts.simulator_failure, *(drawing.failure for drawing in facts.drawings.values())]
        if trial.failure in above:
            said = "as said above"
        yield Finding("problem", "training", f"{TASK} fails while {trial.stage}: {said}", remedy)
    else:
        said = (
            f"{TASK} is drawn by {trial.renderer} and learned: {trial.update_ms:,.0f} ms an update,"
            f" {trial.plan_ms:,.0f} ms a plan, on one core"
        )
        yield Finding("ok", "training", said)


def _read_requirement(text: str) -> tuple[str, str, str]:
    """``mujoco<4,>=3.17`` -> its name, its versions, and the extra that asks for it."""
    package, _, condition = text.partition(";")
    found = re.match(r"([\w.-]+)(\[[\w,-]*\])?\s*\(?([^)]*)\)?", package.strip())
    assert found is not None
    extra = re.search(r"""extra\s*==\s*["']([\w.-]+)""", condition)
    return found[1].lower(), found[3].replace(" ", ""), extra[1] if extra else ""


def fits(version: str, versions: str) -> bool:
    """``fits("3.17.0", ">=3.17,<4")``; local parts, as in 2.13.0+cpu, do not count."""
    tests: dict[str, Callable[[list[int], list[int]], bool]] = {
        ">=": lambda a, b: a >= b,
        "<=": lambda a, b: a <= b,
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
    }
    return all(
        tests[sign](_numbers(version), _numbers(bound))
        for sign, bound in re.findall(r"([<>=!]=|[<>])([\w.+]+)", versions)
    )


def _numbers(version: str) -> list[int]:
    """Without zeros at the end: 2.10.0 is 2.10."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _split(failure: str) -> tuple[str, str]:
    """What went wrong, and the line to type: our own errors end with it."""
    said, _, remedy = failure.removeprefix("ConfigError: ").partition("; type: ")
    return textwrap.shorten(said, LONGEST, placeholder=" ..."), remedy


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


# ---------------------------------------------------------------------------- saying


def describe(findings: Sequence[Finding], width: int = 100) -> str:
    """A line for each, the line to type below it, and what follows from all."""
    indent = " " * (2 + len("problem") + 2)
    subjects = 2 + max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines += textwrap.wrap(
            finding.said,
            width,
            initial_indent=f"  {finding.state:{len(indent) - 2}}{finding.subject:{subjects}}",
            subsequent_indent=indent + " " * subjects,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if finding.remedy:  # in one piece: it is copied
            lines.append(f"{indent}{'type:':>{subjects - 1}} {finding.remedy}")
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        last = f"{_count(problems, 'problem')} between you and a first run; begin with the first"
    else:
        last = f"all that a run needs is here: worldmodel train {TASK} --minutes 10"
    return "\n".join((*lines, "", last))


# ---------------------------------------------------------------------------- gathering


def gather(
    pictures: Path | None = None, announce: Callable[[str], None] = lambda text: None
) -> Facts:
    """Asks the machine, for a quarter of a minute. ``pictures``: a folder for what is drawn."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before there is our own
    versions = _installed()
    announce("asking torch")
    arithmetic = _ask("examine_arithmetic", PATIENCE_S)
    announce("importing the simulator")
    simulator_failure = _alone("import mujoco", PATIENCE_S, MUJOCO_GL="disabled").get("failure", "")
    drawings = {}
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    for name in () if simulator_failure else ("warp", *BACKENDS):
        announce(f"drawing with {name}")
        drawings[name] = _try_drawing(name, pictures)
    announce("learning a little")
    trial = _ask("try_training", PATIENCE_COMPILING_S)
    ffmpeg = "import imageio_ffmpeg; imageio_ffmpeg.get_ffmpeg_exe()"
    return Facts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
        requirements=_requirements(),
        simulator_failure=simulator_failure,
        ffmpeg_failure=_alone(ffmpeg, PATIENCE_S).get("failure", ""),
        mujoco_gl=os.environ.get("MUJOCO_GL", "").lower(),
        has_display=any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")),
        drawings=drawings,
        arithmetic=Arithmetic(**{k: _frozen(v) for k, v in arithmetic.items()}),
        trial=Trial(**trial),
        gpus=_gpus(),
        cores=_cores(),
        quota_cores=_quota_cores(Path("/sys/fs/cgroup/cpu.max")),
        load=load,
        memory_gb=_memory_gb(Path("/proc/meminfo"), Path("/sys/fs/cgroup")),
        disk_gb=shutil.disk_usage(".").free / 1e9,
        folder=os.getcwd(),
        folder_failure=_folder_failure("."),
    )


def _installed() -> dict[str, str]:
    """Every package that can be seen, by its normal name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a half-removed package has none
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


def _requirements() -> tuple[str, ...]:
    try:
        return tuple(importlib.metadata.requires("worldmodel") or ())
    except importlib.metadata.PackageNotFoundError:  # run from its folder
        return ()


def _try_drawing(name: str, pictures: Path | None) -> Drawing:
    picture = "" if pictures is None else str((pictures / f"{name}.png").absolute())
    surroundings = {} if name == "warp" else {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": ""}
    patience = PATIENCE_COMPILING_S if name == "warp" else PATIENCE_S
    return Drawing(**_ask("try_drawing", patience, name, picture, **surroundings))


def _gpus() -> tuple[str, ...]:
    """As the driver names them; not through torch, which may be built without."""
    if shutil.which("nvidia-smi") is None:
        return ()
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(said.stdout.split("\n")[:-1]) if said.returncode == 0 else ()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota_cores(file: Path) -> float | None:
    """``150000 100000`` is one and a half, ``max 100000`` is no limit."""
    try:
        share, _, period = file.read_text().partition(" ")
        return int(share) / int(period)
    except (OSError, ValueError):
        return None


def _memory_gb(meminfo: Path, group: Path) -> float | None:
    """What the machine can still give, or what a container's limit leaves of it."""
    free = []
    with contextlib.suppress(OSError):
        free += [1024 * int(kb) for kb in re.findall(r"MemAvailable: *(\d+)", meminfo.read_text())]
    with contextlib.suppress(OSError, ValueError):  # ValueError: max, no limit
        limit = int((group / "memory.max").read_text())
        kept = int((group / "memory.current").read_text())
        cached = re.findall(r"inactive_file (\d+)", (group / "memory.stat").read_text())
        free.append(limit - kept + sum(map(int, cached)))  # files are let go when memory is short
    return min(free) / 1e9 if free else None


def _folder_failure(folder: str) -> str:
    """Tried: permissions alone do not tell of a read-only disk, or of a full one."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ---------------------------------------------------------------------------- elsewhere


def examine_arithmetic() -> None:
    """In a process of its own, for a broken driver ends the process that asks it."""
    capabilities = torch.cpu.get_capabilities()
    with choose_precision("auto", torch.device("cpu"))():
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
    _tell(
        threads=torch.get_num_threads(),
        bfloat16=[name for name, there in capabilities.items() if "bf16" in name and there],
        precision=precision,
        cuda_build=torch.version.cuda or "",
    )
    with warnings.catch_warnings(record=True) as complaints:  # torch's only word on why not
        warnings.simplefilter("always")
        devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    _tell(cuda_failure=" ".join(str(complaint.message) for complaint in complaints[:1]))
    _tell(cuda_devices=[torch.cuda.get_device_name(index) for index in range(devices)])
    if devices:
        _tell(cuda_failure="no answer to a matrix product")
        product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
        _tell(cuda_failure="" if product.sum().item() == 64**3 else "a matrix product is wrong")


def try_drawing(name: str, picture: str) -> None:
    """The first image of an episode, again and again."""
    render = _warp() if name == "warp" else _opengl()
    image = render()  # [H, W, 3] the first one compiles
    if image.min() == image.max():
        raise RuntimeError("the image is empty")
    seconds: list[float] = []
    while len(seconds) < TIMED_FRAMES and sum(seconds) < TIMED_S:
        begun = time.perf_counter()
        render()
        seconds.append(time.perf_counter() - begun)
    _tell(frames_per_s=float(1 / np.median(seconds)))
    if picture:
        from PIL import Image  # only pictures need it

        beside = Path(picture).with_suffix(".writing")
        larger = image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
        Image.fromarray(larger).save(beside, format="png")
        os.replace(beside, picture)
        _tell(picture=picture)


def _warp() -> Callable[[], NDArray[np.uint8]]:
    from worldmodel.envs.suite import load  # the simulator is heavy

    choose("warp")
    env = load(TASK, np.random.RandomState(0))
    env.reset()
    renderer = make_renderer("warp", env.physics, 0, IMAGE_SIZE, samples=1)
    renderer.start()
    return renderer.render


def _opengl() -> Callable[[], NDArray[np.uint8]]:
    """By dm_control alone: ``MUJOCO_GL`` says with what, and the import settles it."""
    from dm_control import suite

    env = suite.load(*TASK.split("_"), task_kwargs={"random": 0})
    env.reset()

    def render() -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = env.physics.render(IMAGE_SIZE, IMAGE_SIZE, camera_id=0)
        return image

    return render


def try_training() -> None:
    """The way of a run, once round, with the settings that a run begins with."""
    torch.set_num_threads(1)  # two wait for each other on a busy machine
    config = Config(task=TASK)
    _tell(stage="making the task")
    env = make_env(config.task, config.env)
    _tell(stage="playing", renderer=env.describe()["renderer"])
    episode = play_random(env, seed=0).episode
    _tell(stage="learning")
    sizes = config.replay
    replay = Replay(None, batch=sizes.batch, length=sizes.length, memory_bytes=10**9)
    replay.add(episode)
    height, _, channels = episode.image.shape[1:]
    model = WorldModel(config.model, height, channels, len(env.action_low))
    learner = Learner(model, config)
    update_s = []
    for seed in range(3):
        batch = replay.sample(np.random.default_rng(seed))
        begun = time.perf_counter()
        learner.update(batch)
        update_s.append(time.perf_counter() - begun)
    _tell(stage="planning", update_ms=1e3 * min(update_s))
    agent = Agent(model, config)
    belief = agent.observe(agent.initial(), agent.no_action(), episode.image[0])
    plans = [agent.plan(belief, seed=seed) for seed in range(3)]
    _tell(stage="closing", plan_ms=min(plan.milliseconds for plan in plans))
    env.close()


def _tell(**facts: Any) -> None:
    """To whoever started this process; what is told survives a crash a moment later."""
    sys.stdout.write(f"\n{json.dumps(facts)}\n")
    sys.stdout.flush()


def _ask(function: str, seconds: float, *arguments: str, **surroundings: str) -> dict[str, Any]:
    """What a function of this file tells from a process of its own."""
    code = f"from worldmodel import doctor; doctor.{function}(*{arguments!r})"
    return _alone(code, seconds, **surroundings)


_TELL_EXCEPTIONS = """\
import json, sys
def tell(kind, error, trace):
    failure = " ".join(f"{kind.__name__}: {error}".split())
    sys.stdout.write("\\n" + json.dumps({"failure": failure}) + "\\n")
sys.excepthook = tell
"""


def _alone(code: str, seconds: float, **surroundings: str) -> dict[str, Any]:
    """Runs ``code`` elsewhere: all that it told, and a ``failure`` where it did not end well.

    An empty value in ``surroundings`` takes the name out of them.
    """
    environment = {**os.environ, **surroundings}
    environment = {name: value for name, value in environment.items() if value}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", _TELL_EXCEPTIONS + code],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # with its children it is one group
    )
    late = False
    try:
        said, complaints = process.communicate(timeout=seconds)
    except BaseException as error:  # whoever presses Ctrl-C leaves nothing behind either
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said, complaints = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        late = True
    told: dict[str, Any] = {}
    for line in said.splitlines():
        with contextlib.suppress(ValueError):  # others talk there too
            row = json.loads(line)
            told |= row if isinstance(row, dict) else {}
    if late:
        told["failure"] = f"no answer in {seconds:g} s"
    elif process.returncode:
        told.setdefault("failure", _how_it_ended(process.returncode, complaints))
    return told


def _how_it_ended(code: int, complaints: str) -> str:
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    lines = complaints.strip().splitlines()
    return lines[-1] if lines else f"it ended with {code}"
