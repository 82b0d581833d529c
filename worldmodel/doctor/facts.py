"""What is known of a machine, as it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASK = "cartpole_swingup"  # everything is tried with this one


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
