"""Experiments: each is run with ``python -m``, plays episodes and writes its results as CSV."""
