"""Experiments, each run with ``python -m``: they play episodes and write their results as CSV."""
