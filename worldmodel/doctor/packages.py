"""Judge the installed packages by the requirements of worldmodel."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from worldmodel.doctor.facts import Facts
from worldmodel.doctor.findings import Finding, blame, split
from worldmodel.envs.render import INSTALL_WARP

# After pip's upgrade to mujoco 4 and back, a folder remains that cannot be imported.
REINSTALL_MUJOCO = (
    "pip uninstall -y mujoco mujoco-core mujoco-studio && pip install 'mujoco>=3.17,<4'"
)
INSTALL = {
    "mujoco": REINSTALL_MUJOCO,
    # Without the second requirement pip would also install mujoco 4.
    "dm-control": "pip install 'dm-control==1.0.50' 'mujoco>=3.17,<4'",
    "mujoco-warp": INSTALL_WARP,
    "warp-lang": INSTALL_WARP,
}
CONFLICTS = (  # package, versions, reason
    ("mujoco", ">=4", "dm-control 1.0.50 breaks on mujoco 4"),
    ("torch", "<2.10", "loading weights has known security holes"),
)
WITHOUT = {  # optional package -> what does not work without it
    "imageio": "videos cannot be written",
    "imageio-ffmpeg": "videos are GIF, not mp4",
    "matplotlib": "reports hold no curves",
    "pillow": "reports hold no pictures",
    "mujoco-warp": "OpenGL has to draw, which is slower",
    "warp-lang": "OpenGL has to draw, which is slower",
    "tensorboard": "curves are in metrics.jsonl and the report alone",
    "gymnasium": "tasks named gym:ID are unknown",
}


def judge_packages(facts: Facts) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{facts.python}, {facts.system}")
    yield from _judge_namesakes(facts)
    fitting = []
    for requirement in facts.requirements:
        name, versions, extra = _read_requirement(requirement)
        version = facts.versions.get(name)
        if extra == "test":  # needed only to change worldmodel itself
            continue
        if version and name == "mujoco" and facts.simulator_failure:
            first, _, _ = facts.simulator_failure.partition(". ")  # the rest recommends mujoco 4
            said = f"{version} cannot be imported: {split(first)[0]}"
            yield Finding(blame(facts), name, said, REINSTALL_MUJOCO)
            continue
        if version and fits(version, versions):
            fitting.append(f"{name} {version}")
            continue
        remedy = INSTALL.get(name, f"pip install {shlex.quote(name + versions)}")
        state = "note" if name in WITHOUT or extra else blame(facts)
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
        said = f"mp4 cannot be written, GIF can: {split(facts.ffmpeg_failure)[0]}"
        remedy = "pip install --force-reinstall imageio-ffmpeg"
        yield Finding("note", "ffmpeg", said, remedy)
    elif "imageio-ffmpeg" in facts.versions:
        yield Finding("ok", "ffmpeg", "videos can be mp4")


def _judge_namesakes(facts: Facts) -> Iterator[Finding]:
    """Findings about other packages of the same name: Python imports only one of them."""
    for other in facts.namesakes:
        if other.name:
            said = (
                f"{other.name} {other.version} in {other.place} brings a package worldmodel too;"
                " Python imports only one of them, and pip may mix their files"
            )
            remedy = (
                f"pip uninstall -y {shlex.quote(other.name)} &&"
                f" pip install --force-reinstall --no-deps {facts.source}"
            )
        else:
            place = Path(other.place)
            said = f"{place} is not this package; a program next to it imports it instead"
            renamed = place.with_name(f"other_{place.name}")
            remedy = f"mv {shlex.quote(str(place))} {shlex.quote(str(renamed))}"
        yield Finding("note", "worldmodel", said, remedy)


def _read_requirement(text: str) -> tuple[str, str, str]:
    """Split ``mujoco<4,>=3.17`` into name, versions, and the extra that it belongs to."""
    package, _, condition = text.partition(";")
    parts = re.match(r"([\w.-]+)(\[[\w,-]*\])?\s*\(?([^)]*)\)?", package.strip())
    assert parts is not None
    extra = re.search(r"""extra\s*==\s*["']([\w.-]+)""", condition)
    return parts[1].lower(), parts[3].replace(" ", ""), extra[1] if extra else ""


def fits(version: str, versions: str) -> bool:
    """``fits("3.17.0", ">=3.17,<4")`` is true; local parts, as in 2.13.0+cpu, are ignored."""
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
    """The numbers of a version without zeros at the end: 2.10.0 equals 2.10."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
