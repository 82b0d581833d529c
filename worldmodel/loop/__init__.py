"""The outer loop of a run: learn from a replay, save, resume, and collect in between."""

from worldmodel.loop.online import FINAL_EPISODES, Outcome, train

__all__ = ["FINAL_EPISODES", "Outcome", "train"]
