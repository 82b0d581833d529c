"""Behaviours: what is learned to act with, one file a kind.

``BehaviourSettings`` is the only list of kinds; None learns nothing to act with, and a planner acts
alone.
"""

from __future__ import annotations

from worldmodel.behaviours.behaviour import Behaviour, Loss, ParameterGroup
from worldmodel.behaviours.imagined import ActorCritic, Imagined

__all__ = ["ActorCritic", "Behaviour", "BehaviourSettings", "Imagined", "Loss", "ParameterGroup"]

BehaviourSettings = Imagined
