"""Experiments that play episodes and keep their figures as CSV: ``python -m`` runs each of them."""
