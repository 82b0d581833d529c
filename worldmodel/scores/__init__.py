"""Scores of imagined futures, one file a kind: through them alone a planner knows the task."""

from __future__ import annotations

from worldmodel.scores.designated_pixels import DesignatedPixels, Pixel, refuse_outside
from worldmodel.scores.disagreement import Disagreement, reward_without
from worldmodel.scores.function import Function, LatentScore
from worldmodel.scores.goal import Goal
from worldmodel.scores.quadratic import Quadratic
from worldmodel.scores.reward import RewardSum, reward_rows
from worldmodel.scores.score import FutureScore, HasCost, score_of
from worldmodel.scores.weighted import Weighted

__all__ = [
    "DesignatedPixels",
    "Disagreement",
    "Function",
    "FutureScore",
    "Goal",
    "HasCost",
    "LatentScore",
    "Pixel",
    "Quadratic",
    "RewardSum",
    "Weighted",
    "refuse_outside",
    "reward_rows",
    "reward_without",
    "score_of",
]
