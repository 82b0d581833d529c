"""Make findings about the renderers from their drawings; one that works is enough."""

from __future__ import annotations

import re
from collections.abc import Iterator

from worldmodel.doctor.facts import Drawing, Facts
from worldmodel.doctor.findings import Finding, blame, split, who_draws
from worldmodel.doctor.packages import fits
from worldmodel.envs.gl import BACKENDS, INSTALL_GL
from worldmodel.envs.render import INSTALL_WARP

REINSTALL_WARP = INSTALL_WARP.replace("install", "install --force-reinstall --no-deps", 1)


def judge_renderers(facts: Facts) -> Iterator[Finding]:
    """Findings about each renderer; if none works, warp comes first: it needs no system package.

    One that does not work is judged when all have been tried, because another may be enough.
    """
    drawn = who_draws(facts)
    all_are_tried = None not in facts.drawings.values()
    for name, drawing in facts.drawings.items():
        subject = name if name == "warp" else f"gl/{name}"
        if drawing is None or (name not in drawn and not all_are_tried):
            continue
        if name in drawn:
            kept = f"; {drawing.picture}" if drawing.picture else ""
            said = f"draws {drawing.frames_per_s:,.0f} images of 64x64 a second{kept}"
            yield Finding("ok", subject, said)
        elif name == "warp":
            yield _judge_warp(facts, drawing)
        else:
            yield _judge_opengl(facts, name, drawing)
    if not facts.drawings:
        yield Finding("note", "renderers", "not tried, because the simulator is missing")
    if all_are_tried:
        yield from _judge_variable(facts)


def _judge_opengl(facts: Facts, name: str, drawing: Drawing) -> Finding:
    said = f"does not draw: {_why_no_opengl(facts, name, drawing)}"
    drawn = who_draws(facts)
    opengl = [backend for backend in BACKENDS if backend in drawn]
    if opengl:
        said += f"; {opengl[0]} does, which is enough"
    elif "warp" in drawn:
        said += "; it is needed only for images as published"
    wanted = name == "egl" and not opengl and not _simulator_is_wrong(facts)
    return Finding("note", f"gl/{name}", said, INSTALL_GL if wanted else "")


def _judge_variable(facts: Facts) -> Iterator[Finding]:
    """A finding if the variable MUJOCO_GL chooses a backend that does not draw."""
    drawn = who_draws(facts)
    opengl = [name for name in BACKENDS if name in drawn]
    state = blame(facts) if opengl and "warp" not in drawn else "note"
    if facts.mujoco_gl and facts.mujoco_gl not in BACKENDS:
        said = f"{facts.mujoco_gl} is none of {', '.join(BACKENDS)}: OpenGL cannot be used"
        yield Finding(state, "MUJOCO_GL", said, "unset MUJOCO_GL")
    elif facts.mujoco_gl and opengl and facts.mujoco_gl not in opengl:
        said = f"asks for {facts.mujoco_gl}, which does not draw; {opengl[0]} does"
        yield Finding(state, "MUJOCO_GL", said, "unset MUJOCO_GL")


def _why_no_opengl(facts: Facts, name: str, drawing: Drawing) -> str:
    failure = drawing.failure
    if name == "glfw" and not facts.has_display:
        return "it needs a display, and there is none"
    # PyOpenGL calls functions of a library even if it did not find the library.
    if re.search("'NoneType' object has no attribute '(egl|gl|OSMesa)", failure):
        return "its library is not installed"
    return split(failure)[0]


def _judge_warp(facts: Facts, drawing: Drawing) -> Finding:
    said, remedy = split(drawing.failure)
    if "[Errno" in said:
        remedy = "export WARP_CACHE_PATH=/tmp/warp"  # it cannot write its compiled kernels
    elif not remedy and not _simulator_is_wrong(facts):
        remedy = REINSTALL_WARP
    return Finding(blame(facts), "warp", f"does not draw: {said}", remedy)


def _simulator_is_wrong(facts: Facts) -> bool:
    """True if drawing fails because of the simulator, not of a renderer."""
    missing = not {"mujoco", "dm-control"} <= set(facts.versions)
    return missing or bool(facts.simulator_failure) or fits(facts.versions["mujoco"], ">=4")
