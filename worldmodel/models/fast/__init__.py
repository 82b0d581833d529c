"""PyTorch's own layers, quicker: the same parameters and the same results, a test for each.

Swap an import to go back to PyTorch's. Private operators of torch are called in ``onednn`` alone.
"""
