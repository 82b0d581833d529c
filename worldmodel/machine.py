"""What this process may use of the machine, and how it asks for memory."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # slow to import, and half of this file does without
    import torch

Precision = Callable[[], AbstractContextManager[None]]
"""A context manager that sets the precision of products: autocast, or nothing."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """How many this process can keep busy: those it may run on, and that a container grants."""
    granted = quota_cores(QUOTA)
    return allowed_cores() if granted is None else min(allowed_cores(), math.ceil(granted))


def allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota_cores(file: Path) -> float | None:
    """``150000 100000`` is one and a half, ``max 100000`` is no limit."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the machine multiplies it faster: asked, not assumed."""
    import torch

    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        features = torch.cpu.get_capabilities()
        fast = bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return torch.bfloat16 if fast else torch.float32


def precision_of(precision: str, device: torch.device) -> Precision:
    """A context in which PyTorch multiplies as ``compute_dtype`` says."""
    import torch

    if compute_dtype(precision, device) == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


class InlineExecutor(Executor):
    """An executor without threads. On one core a second thread made updates 5 % slower."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def executor_beside() -> Executor:
    """A second thread where there is a second core."""
    return second_thread() if cores() > 1 else InlineExecutor()


def second_thread() -> Executor:
    """For products beside this thread's work, spread as wide as its own."""
    import torch

    def spread() -> None:
        torch.set_num_threads(torch.get_num_threads())  # OpenMP counts anew in each thread

    return ThreadPoolExecutor(1, initializer=spread)


def keep_memory() -> None:
    """Fresh pages can cost more than the sums in them: glibc is asked to keep what it has.

    Large updates gain most. Results stay the same bit for bit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # glibc alone has it
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: large tensors come from the heap
        mallopt(-1, (1 << 31) - 4096)  # M_TRIM_THRESHOLD: and go back to it


def resident_bytes(process: Path = Path("/proc/self")) -> int:
    """Memory of a process and of those that it started; 0 where the system does not say."""
    total = 0
    waiting = [process]
    while waiting:
        one = waiting.pop()
        try:
            status = (one / "status").read_text()
            children = [path.read_text() for path in one.glob("task/*/children")]
        except OSError:  # it ended, or this is no Linux
            continue
        resident = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        total += sum(int(line.split()[1]) * 1024 for line in resident)
        waiting += [process.parent / number for text in children for number in text.split()]
    return total
