"""Records of the facts about a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASK = "cartpole_swingup"  # the task that every probe uses


@dataclass(frozen=True)
class Drawing:
    """The result of drawing with one renderer."""

    frames_per_s: float = 0.0  # 0: it did not draw
    failure: str = ""
    picture: str = ""  # the path of the image, if pictures were asked for


@dataclass(frozen=True)
class Arithmetic:
    """What torch reports about this machine, and what the default settings need of it."""

    threads: int = 0
    bfloat16: tuple[str, ...] = ()  # the processor's instructions for bfloat16
    precision: str = ""  # in which this machine learns
    cuda_build: str = ""  # version of CUDA; empty if torch was built without it
    cuda_devices: tuple[str, ...] = ()
    cuda_failure: str = ""
    replay_gb: float = 0.0  # memory for the episodes of a long run
    failure: str = ""


@dataclass(frozen=True)
class Trial:
    """The result of a short training: one episode, updates and plans, on one thread."""

    renderer: str = ""
    update_ms: float = 0.0
    plan_ms: float = 0.0
    stage: str = "starting"  # the last stage that began
    failure: str = ""


@dataclass(frozen=True)
class Namesake:
    """Another package, or a file, that ``import worldmodel`` may mean."""

    name: str  # of its distribution; empty if it is only a file or a folder
    version: str
    place: str  # the folder that it is installed in, or the path of the file or folder


@dataclass(frozen=True)
class Facts:
    """All facts that ``judge`` uses; None: not known yet."""

    python: str
    system: str
    versions: Mapping[str, str]  # of the installed packages
    requirements: tuple[str, ...]  # from worldmodel's own metadata
    namesakes: tuple[Namesake, ...]
    source: str  # what pip installs worldmodel from
    simulator_failure: str  # the reason, if mujoco cannot be imported
    ffmpeg_failure: str
    mujoco_gl: str  # the variable MUJOCO_GL
    has_display: bool
    drawings: Mapping[str, Drawing | None]  # by renderer; empty without a simulator
    arithmetic: Arithmetic | None
    trial: Trial | None
    quick: bool  # the short training is left out
    gpus: tuple[str, ...]  # of the machine, even if torch does not see them
    cores: int  # number of cores that this process may use
    quota_cores: float | None  # the limit of a container
    load: float  # mean number of runnable processes over the last minute
    memory_gb: float | None  # free
    disk_gb: float
    folder: str
    folder_failure: str  # the reason, if no file can be written in the folder
