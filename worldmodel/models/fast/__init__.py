"""Fast layers: PyTorch's own with the same parameters and results, computed faster.

A test compares each with PyTorch's. Swap an import to go back to PyTorch's own. Private operators
of torch are called only in ``onednn``.
"""
