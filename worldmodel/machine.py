"""The machine: cores, threads, precision and memory of this process."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is slow to import, and half of this file does not need it
    import torch

Precision = Callable[[], AbstractContextManager[None]]
"""A context manager that sets the precision of products: autocast, or nothing."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """The number of cores of this process: those it may run on, at most a container's quota."""
    quota = quota_cores(QUOTA)
    return allowed_cores() if quota is None else min(allowed_cores(), math.ceil(quota))


def allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota_cores(file: Path) -> float | None:
    """The quota of a container: ``150000 100000`` is 1.5 cores, ``max 100000`` is no limit."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of products: ``auto`` is bfloat16 if this machine has instructions for it."""
    import torch

    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported()
    else:
        features = torch.cpu.get_capabilities()
        is_fast = bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return torch.bfloat16 if is_fast else torch.float32


def precision_of(precision: str, device: torch.device) -> Precision:
    """A context in which PyTorch multiplies in the dtype of ``compute_dtype``."""
    import torch

    if compute_dtype(precision, device) == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


BUSY = 0.5  # share of the cores: a larger load makes measured times too long


def load() -> float:
    """Mean number of processes that wanted a core in the last minute; 0 if it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


class InlineExecutor(Executor):
    """An executor without threads. On one core a second thread made updates 5 % slower."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def default_executor() -> Executor:
    """A second thread if there is a second core, else an executor without threads."""
    return second_thread() if cores() > 1 else InlineExecutor()


def second_thread() -> Executor:
    """An executor of one thread, whose products use as many cores as this thread's."""
    import torch

    def set_threads() -> None:
        torch.set_num_threads(torch.get_num_threads())  # OpenMP has a setting for each thread

    return ThreadPoolExecutor(1, initializer=set_threads)


def learning_threads(device: str) -> int | None:
    """Threads of a learner next to a process that collects; None: as many as torch chooses."""
    # two gradients are computed at once
    return max(1, cores() // 2) if str(device) == "cpu" else None


def use_threads(count: int) -> None:
    """Let torch compute with so many threads, if this process has it loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


def keep_memory() -> None:
    """Ask glibc to keep freed memory, because new pages can cost more than the computation.

    Large updates gain most. Results stay the same bit for bit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # only glibc has it
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: large tensors are allocated on the heap
        mallopt(-1, (1 << 31) - 4096)  # M_TRIM_THRESHOLD: the heap keeps what they free


def resident_bytes(process: Path = Path("/proc/self")) -> int:
    """Memory of a process and its children in bytes; 0 if the system does not tell."""
    total = 0
    waiting = [process]
    while waiting:
        current = waiting.pop()
        try:
            status = (current / "status").read_text()
            children = [path.read_text() for path in current.glob("task/*/children")]
        except OSError:  # the process ended, or this is not Linux
            continue
        resident = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        total += sum(int(line.split()[1]) * 1024 for line in resident)
        waiting += [process.parent / number for text in children for number in text.split()]
    return total
