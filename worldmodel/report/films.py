"""Films: a frame for each row, with a caption on top that says whether it is seen or imagined."""

from __future__ import annotations

import numpy as np

from worldmodel.analysis import Alternatives, Prediction
from worldmodel.report.palette import LIGHT, Palette
from worldmodel.report.strips import (
    EPISODES_SHOWN,
    Images,
    Row,
    Strip,
    draw_strip,
    three_rows,
)

COLUMNS = 3  # of a film of alternatives
ROOM_BELOW = 60  # for the controls of a browser's player


def draw_film(prediction: Prediction, palette: Palette = LIGHT) -> list[Images]:
    """The windows side by side: truth, model and error, one below the other."""
    shown = slice(0, EPISODES_SHOWN)
    columns = [f"episode {number}" for number in range(len(prediction.truth[shown]))]
    frames = []
    length = prediction.truth.shape[1]
    for row in range(length):
        ahead = row + 1 - prediction.context
        rows = three_rows(
            prediction.truth[shown, row],
            prediction.model[shown, row],
            valid=prediction.valid[shown, row],
            seen=np.full(len(columns), ahead <= 0),
        )
        # captions of about the same length: every frame has the same size
        title = f"seen: image {row + 1}" if ahead <= 0 else f"imagined: {ahead} ahead"
        strip = Strip(title, columns, rows, (), mark="seen" if ahead <= 0 else "imagined")
        frames.append(draw_strip(strip, palette, ROOM_BELOW))
    return frames


def draw_alternatives(alternatives: Alternatives, palette: Palette = LIGHT) -> list[Images]:
    """The futures of other actions side by side; the first frame is the last image seen."""
    count = len(alternatives.names)
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    names = [*alternatives.names, *[""] * (columns * lines - count)]
    valid = np.array([bool(name) for name in names])
    empty = np.zeros_like(alternatives.seen)
    frames = []
    for row in range(-1, alternatives.images.shape[1]):
        seen = row < 0
        drawn = [alternatives.seen] * count if seen else list(alternatives.images[:, row])
        images = np.stack([*drawn, *[empty] * (len(names) - count)])
        rows = []
        for line in range(lines):
            part = slice(line * columns, (line + 1) * columns)
            rows.append(Row("", images[part], valid[part], valid[part] & seen, heads=names[part]))
        title = "seen" if seen else f"imagined: {row + 1} ahead"
        strip = Strip(title, [""] * columns, rows, (), mark="seen" if seen else "imagined")
        frames.append(draw_strip(strip, palette, ROOM_BELOW))
    return frames
