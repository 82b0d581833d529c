"""The outer loop of a run: collect episodes, learn from the replay, save and resume."""

from worldmodel.loop.needs import Needs, dry_run
from worldmodel.loop.online import FINAL_EPISODES, Outcome, train
from worldmodel.loop.state import Round

__all__ = ["FINAL_EPISODES", "Needs", "Outcome", "Round", "dry_run", "train"]
