"""Planners: search over a score for the action sequence to follow, knowing no model.

``ilqr`` stands beside them with a door of its own: it asks for the dynamics and the cost.
"""

from __future__ import annotations

from worldmodel.checks import require
from worldmodel.config import PlannerConfig
from worldmodel.planners.candidates import draw
from worldmodel.planners.categorical import CategoricalCEM
from worldmodel.planners.cem import CEM
from worldmodel.planners.deadline import Deadline
from worldmodel.planners.gradient import Gradient, Refined
from worldmodel.planners.icem import ICEM
from worldmodel.planners.ilqr import ilqr
from worldmodel.planners.limits import Allowed, Limits
from worldmodel.planners.mppi import MPPI
from worldmodel.planners.planner import Planner, Project, box
from worldmodel.planners.shooting import Shooting

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "Allowed",
    "CategoricalCEM",
    "Deadline",
    "Gradient",
    "Limits",
    "Planner",
    "Project",
    "Refined",
    "Shooting",
    "box",
    "build",
    "build_categorical",
    "draw",
    "ilqr",
]

CHOICES_FLOOR = 0.05  # share of the uniform distribution in a search over choices; not studied


def build_categorical(config: PlannerConfig) -> Planner:
    """For actions that are choices. The categorical search is the counterpart of cem and mppi; the
    others' ideas need numbers between the choices."""
    require(
        config.kind in ("cem", "mppi"),
        "planner.kind: where an action is one of several choices, expected cem or mppi (both are"
        f" then the cross-entropy method over choices), got {config.kind}",
    )
    return CategoricalCEM(
        horizon=config.horizon,
        iterations=config.iterations,
        candidates=config.candidates,
        elites=config.elites,
        floor=CHOICES_FLOOR,
    )


def build(config: PlannerConfig) -> Planner:
    match config.kind:
        case "cem":
            return CEM(
                horizon=config.horizon,
                iterations=config.iterations,
                candidates=config.candidates,
                elites=config.elites,
                initial_std=config.max_std,
            )
        case "mppi":
            return MPPI(
                horizon=config.horizon,
                iterations=config.iterations,
                candidates=config.candidates,
                elites=config.elites,
                temperature=config.temperature,
                min_std=config.min_std,
                max_std=config.max_std,
            )
        case "icem":
            return ICEM(
                horizon=config.horizon,
                iterations=config.iterations,
                candidates=config.candidates,
                elites=config.elites,
                initial_std=config.max_std,
                noise_exponent=config.noise_exponent,
                kept_share=config.kept_share,
                decay=config.decay,
                momentum=config.momentum,
            )
        case "shooting":
            return Shooting(
                horizon=config.horizon,
                iterations=config.iterations,
                candidates=config.candidates,
                elites=config.elites,
            )
        case "gradient":
            return Gradient(
                horizon=config.horizon,
                iterations=config.iterations,
                candidates=config.candidates,
                elites=config.elites,
                initial_std=config.max_std,
                rate=config.rate,
            )
