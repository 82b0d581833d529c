"""The dream of a world model: a page on which a person acts in the model's imagination.

::

    dream = Dream(agent, read_starts(agent, run))
    row = dream.begin(0)                     # what the model believes after real images
    row = dream.step(row, [1.0, 0.0])        # what it imagines of this action; no simulator runs
    row.image                                # [H, W, 3] bytes, drawn by the model
"""

from worldmodel.dream.dream import Dream, Row

__all__ = ["Dream", "Row"]
