"""The outer loop of a run: collect episodes, learn from the replay, save and resume."""

from worldmodel.loop.online import FINAL_EPISODES, Outcome, train

__all__ = ["FINAL_EPISODES", "Outcome", "train"]
