"""Make findings from facts alone, so that a test can describe any machine."""

from __future__ import annotations

from collections.abc import Iterator

from worldmodel.doctor.facts import TASK, Arithmetic, Facts, Trial
from worldmodel.doctor.findings import Finding, blame, count, split, who_draws
from worldmodel.doctor.packages import judge_packages
from worldmodel.doctor.renderers import judge_renderers
from worldmodel.machine import BUSY

DISK_GB = 6.5  # 500,000 rows of 64x64 bytes x 3: a million steps at action repeat 2
LEAST_DISK_GB = 0.2
PROCESSES_GB = 2.0  # memory of two processes with torch and the simulator
REINSTALL_TORCH = "pip install --force-reinstall 'torch>=2.10'"


def judge(facts: Facts) -> list[Finding]:
    """All findings about a machine, from its facts alone.

    While some facts are not known yet, these are the findings that do not depend on them: later
    facts add findings and change none.
    """
    findings = [
        *judge_packages(facts),
        *judge_renderers(facts),
        *(_judge_arithmetic(facts, facts.arithmetic) if facts.arithmetic else ()),
        *(_judge_machine(facts, facts.arithmetic) if facts.arithmetic else ()),
        *_judge_place(facts),
        *(_judge_trial(facts, facts.trial) if facts.trial else ()),
    ]
    return [finding for finding in findings if finding.state != "open"]


def _judge_arithmetic(facts: Facts, arithmetic: Arithmetic) -> Iterator[Finding]:
    if arithmetic.failure:
        said = f"fails: {split(arithmetic.failure)[0]}"
        yield Finding(blame(facts), "torch", said, REINSTALL_TORCH)
        return
    names = ", ".join(arithmetic.bfloat16) or "no instructions for it"
    slower = ", which takes longer" if arithmetic.precision == "float32" else ""
    said = f"{names}: the processor learns in {arithmetic.precision}{slower}"
    yield Finding("ok", "bfloat16", said)
    seen, installed = ", ".join(arithmetic.cuda_devices), ", ".join(facts.gpus)
    if arithmetic.cuda_devices and not arithmetic.cuda_failure:
        yield Finding("ok", "gpu", f"{seen}; train --device cuda learns on it")
    elif arithmetic.cuda_devices:
        said = f"{seen} is seen, but does not compute: {split(arithmetic.cuda_failure)[0]}"
        yield Finding("note", "gpu", said, REINSTALL_TORCH)
    elif installed and not arithmetic.cuda_build:
        said = (
            f"{installed} is idle: torch {facts.versions.get('torch')} is built for processors"
            " alone; on Linux the usual one is not, elsewhere ask pytorch.org/get-started"
        )
        yield Finding("note", "gpu", said, REINSTALL_TORCH)
    elif installed:
        old = f"its driver may be too old for CUDA {arithmetic.cuda_build}"
        why = split(arithmetic.cuda_failure or old)[0]
        yield Finding("note", "gpu", f"{installed}, but torch does not see it: {why}", "nvidia-smi")
    else:
        yield Finding("ok", "gpu", "none, and none is needed")


def _judge_machine(facts: Facts, arithmetic: Arithmetic) -> Iterator[Finding]:
    threads = f", torch takes {count(arithmetic.threads, 'thread')}"
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
            f"{facts.load:.1f} on {count(facts.cores, 'core')}: other work runs here, so all is"
            " slower than it could be"
        )
        yield Finding("note", "load", said, "top")
    else:
        yield Finding("ok", "load", f"{facts.load:.1f} on {count(facts.cores, 'core')}")
    if facts.memory_gb is None:
        return
    wanted = arithmetic.replay_gb
    if facts.memory_gb < wanted + PROCESSES_GB:
        less = max(0.1, facts.memory_gb - PROCESSES_GB)
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


def _judge_trial(facts: Facts, trial: Trial) -> Iterator[Finding]:
    if trial.failure:
        said, remedy = split(trial.failure)
        drawn = who_draws(facts)
        if not remedy and drawn and "warp" not in drawn:
            remedy = f"worldmodel train {TASK} --env.renderer gl"
        above = [facts.simulator_failure]
        above += [drawing.failure for drawing in facts.drawings.values() if drawing]
        if trial.failure in above:
            said = "as said above"
        yield Finding("problem", "training", f"{TASK} fails while {trial.stage}: {said}", remedy)
    else:
        said = (
            f"{TASK} is drawn by {trial.renderer} and learned: {trial.update_ms:,.0f} ms an update,"
            f" {trial.plan_ms:,.0f} ms a plan, on one core"
        )
        yield Finding("ok", "training", said)
