"""Planners: searches for the action sequence with the best score, independent of any model.

``ILQR`` needs more from its score than returns: also the dynamics and the cost behind them.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

from worldmodel.checks import ConfigError, require
from worldmodel.limits import Allowed, Limits
from worldmodel.planners.candidates import draw
from worldmodel.planners.categorical import CategoricalCEM
from worldmodel.planners.cem import CEM
from worldmodel.planners.gradient import Gradient, Refined
from worldmodel.planners.icem import ICEM
from worldmodel.planners.ilqr import ILQR, Problem, ilqr
from worldmodel.planners.limits import projection_into
from worldmodel.planners.mppi import MPPI
from worldmodel.planners.planner import Planner, Project, box
from worldmodel.planners.shooting import Shooting
from worldmodel.timing import Deadline

__all__ = [
    "CEM",
    "ICEM",
    "ILQR",
    "MPPI",
    "Allowed",
    "CategoricalCEM",
    "Deadline",
    "Gradient",
    "Limits",
    "Planner",
    "PlannerSettings",
    "Problem",
    "Project",
    "Refined",
    "Sampling",
    "Shooting",
    "beginning_at",
    "box",
    "draw",
    "ilqr",
    "no_planner",
    "of_kind",
    "over_choices",
    "projection_into",
    "searches",
    "with_candidates",
]

Sampling = CEM | ICEM | MPPI | Shooting | Gradient
"""Planners that evaluate many candidates."""
PlannerSettings = Sampling | ILQR

CHOICES_FLOOR = 0.05  # share of the uniform distribution in a search over choices; not studied


def no_planner(what: str) -> ConfigError:
    """The error where planner is none, and ``what`` needs one: ``a score``."""
    return ConfigError(
        f"planner: none, so the policy acts and nothing is searched; {what} needs a planner; write"
        " planner.kind: cem"
    )


def over_choices(planner: PlannerSettings) -> CategoricalCEM:
    """The planner for actions that are choices: the categorical search, for cem and mppi.

    The other planners need actions that vary continuously.
    """
    require(
        isinstance(planner, CEM | MPPI),
        "planner.kind: where an action is one of several choices, expected cem or mppi (both are"
        f" then the cross-entropy method over choices), got {planner.kind}",
    )
    assert isinstance(planner, CEM | MPPI)
    return CategoricalCEM(
        horizon=planner.horizon,
        iterations=planner.iterations,
        candidates=planner.candidates,
        elites=planner.elites,
        floor=CHOICES_FLOOR,
    )


def with_candidates(planner: PlannerSettings | None) -> Sampling:
    """The planner itself; raise if there is none, or if it does not evaluate candidates."""
    if planner is None:
        raise no_planner("whatever counts candidates")
    require(
        not isinstance(planner, ILQR),
        "planner.kind: ilqr follows one trajectory; expected a planner that evaluates candidates",
    )
    assert not isinstance(planner, ILQR)
    return planner


def of_kind(kind: str, like: PlannerSettings | None) -> PlannerSettings:
    """A planner of that kind that takes from ``like`` all settings that both have."""
    variants = {variant.kind: variant for variant in get_args(PlannerSettings)}
    require(kind in variants, f"planner.kind: expected one of {', '.join(variants)}; got {kind!r}")
    planner: PlannerSettings = variants[kind]()
    if like is None:
        return planner
    shared = {f.name for f in fields(planner)} & {f.name for f in fields(like)} - {"kind"}
    return replace(planner, **{name: getattr(like, name) for name in shared})


def beginning_at(std: float, planner: PlannerSettings) -> PlannerSettings:
    """The same planner with another ``initial_std``, if its kind has one."""
    return planner if isinstance(planner, Shooting | ILQR) else replace(planner, initial_std=std)


def searches(
    planner: PlannerSettings | None,
    std_without_policy: float,
    has_proposals: bool,
    has_choices: bool,
) -> tuple[Planner | None, Planner | None]:
    """The planner for the reward, and the planner for a score the policy has not learned for.

    Without a policy's proposals a search begins with ``std_without_policy``.
    """
    if planner is None:
        return None, None
    if has_choices:
        categorical = over_choices(planner)
        return categorical, categorical
    wide = beginning_at(std_without_policy, planner)
    return (planner if has_proposals else wide), wide
