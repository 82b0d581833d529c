"""Strips: rows of enlarged, labelled images, as arrays for pictures and video frames.

They are drawn with Pillow, which comes with imageio, and so do not need matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.analysis import Moment, Prediction
from worldmodel.report.palette import LIGHT, Palette

CELL = 150  # least size of an enlarged image, in screen pixels
GAP, MARGIN = 10, 22
LABELS = 150  # width of the row labels, at least
TITLE_SIZE, LABEL_SIZE = 26, 20
FULL_ERROR = 0.5  # differences (at most 1) from here on are drawn brightest
# from black over vermilion to pale yellow: lightness only rises, so colour-blind eyes order it too
ERROR_STOPS = ((0, 0, 0), (120, 32, 10), (213, 94, 0), (246, 180, 70), (255, 250, 215))
STRIP_AHEAD = (1, 5, 10, 15, 20, 30, 45)  # rows after the context in a strip
STRIP_MOMENTS = 8  # rows of an episode whose reconstructions are drawn
EPISODES_SHOWN = 4
PLAN_STEPS = 7  # rows of a look-ahead in a strip, the first and the last included
NUMBERS_SAID = 3  # most numbers of an action that are written: more do not fit below an image

Images = NDArray[np.uint8]
Actions = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A row of a strip."""

    label: str
    images: Images  # [N, H, W, 3]
    valid: NDArray[np.bool_]  # [N] False: an empty place
    seen: NDArray[np.bool_]  # [N] True: framed
    gap_below: bool = False
    words: Sequence[str] = ()  # [N] below the images, or none


def paint_error(truth: Images, model: Images) -> Images:
    """[..., H, W, 3] twice -> [..., H, W, 3]: a colour for each pixel's largest difference"""
    apart = np.abs(truth.astype(np.int16) - model).max(-1) / (255 * FULL_ERROR)
    stops = np.linspace(0, 1, len(ERROR_STOPS))
    colours = np.array(ERROR_STOPS, float)
    painted = np.stack([np.interp(apart, stops, colours[:, c]) for c in range(3)], -1)
    return painted.round().astype(np.uint8)


def draw_strip(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    foot: str = "",
    palette: Palette = LIGHT,
) -> Images:
    """[H, W, 3]; H and W are even, as mp4 requires"""
    from PIL import Image, ImageDraw  # they come with imageio, which a robot may not have

    count, height, width = rows[0].images.shape[:3]
    scale = max(1, -(-CELL // max(height, width)))
    height, width = scale * height, scale * width
    top = MARGIN + TITLE_SIZE + 14 + LABEL_SIZE + 10
    tops = []
    for row in rows:
        tops.append(top)
        top += height + (LABEL_SIZE + 4 if row.words else 0)
        top += 3 * GAP if row.gap_below else GAP
    bottom = top + (LABEL_SIZE + 14 if foot else 0) + MARGIN - GAP
    names = [line for row in rows for line in row.label.split("\n")]
    widest = max(_font(LABEL_SIZE).getlength(name) for name in names)
    labels = max(LABELS, int(widest) + MARGIN)
    right = labels + MARGIN + count * (width + GAP) - GAP + MARGIN
    lines = _font(TITLE_SIZE).getlength(title), _font(LABEL_SIZE).getlength(foot)
    right = max(right, int(max(lines)) + 1 + 2 * MARGIN)
    canvas = Image.new("RGB", (right + right % 2, bottom + bottom % 2), palette.card)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN - 4), title, palette.ink, _font(TITLE_SIZE))
    lefts = [labels + MARGIN + number * (width + GAP) for number in range(count)]
    for left, column in zip(lefts, columns, strict=True):
        place = (left + width // 2, tops[0] - 8)
        draw.text(place, column, palette.quiet, _font(LABEL_SIZE), anchor="ms")
    for top, row in zip(tops, rows, strict=True):
        place = (labels + MARGIN - 14, top + height // 2)
        draw.text(place, row.label, palette.ink, _font(LABEL_SIZE), anchor="rm")
        for left, image, valid, seen in zip(lefts, row.images, row.valid, row.seen, strict=True):
            if not valid:
                continue
            large = image.repeat(scale, 0).repeat(scale, 1)
            canvas.paste(Image.fromarray(large), (left, top))
            wide, colour = (3, palette.model) if seen else (1, palette.line)
            box = (left - wide, top - wide, left + width + wide - 1, top + height + wide - 1)
            draw.rectangle(box, outline=colour, width=wide)
        for left, words in zip(lefts, row.words, strict=False):
            place = (left + width // 2, top + height + LABEL_SIZE)
            draw.text(place, words, palette.quiet, _font(LABEL_SIZE), anchor="ms")
    if foot:
        draw.text((MARGIN, bottom - MARGIN), foot, palette.quiet, _font(LABEL_SIZE), anchor="ls")
    return np.asarray(canvas)


def draw_reconstructions(
    truth: Images, model: Images, moments: Sequence[int], palette: Palette = LIGHT
) -> Images:
    """The rows ``moments`` of one episode; ``truth`` and ``model``: [N, H, W, 3]."""
    everything = np.ones(len(truth), np.bool_)
    return draw_strip(
        "Reconstruction: the model sees the true image and draws it again from its belief",
        [f"row {moment}" for moment in moments],
        _three(truth, model, valid=everything, seen=~everything),
        foot=_error_scale(),
        palette=palette,
    )


def draw_open_loop(prediction: Prediction, palette: Palette = LIGHT) -> Images:
    """Draw some rows of the first windows, one window below the other."""
    seen = prediction.context - 1
    length = prediction.truth.shape[1]
    picks = [0, seen] if seen else [seen]
    picks += [seen + ahead for ahead in STRIP_AHEAD if seen + ahead < length]
    if length - 1 not in picks:
        picks.append(length - 1)
    rows = []
    for window in range(min(EPISODES_SHOWN, len(prediction.truth))):
        rows += _three(
            prediction.truth[window, picks],
            prediction.model[window, picks],
            valid=prediction.valid[window, picks],
            seen=np.array(picks) <= seen,
            name=f"episode {window}",
        )
    return draw_strip(
        f"Open loop: the model saw {prediction.context} images, then imagined from the actions"
        " alone",
        [f"seen {pick + 1}" if pick <= seen else f"+{pick - seen}" for pick in picks],
        rows,
        foot=f"{_error_scale()}. Blue frame: the model saw it",
        palette=palette,
    )


def draw_plans(moment: Moment, palette: Palette = LIGHT) -> Images:
    """Draw one decision: the images that followed, the plan, and candidates after and before."""
    length = len(moment.truth)
    picks = np.unique(np.linspace(0, length - 1, min(PLAN_STEPS, length)).round().astype(int))
    valid, plain = np.ones(len(picks) + 1, np.bool_), np.zeros(len(picks) + 1, np.bool_)
    seen = plain.copy()
    seen[0] = True
    nothing = valid & ~seen

    def row(
        label: str, images: Images, actions: Actions, *, framed: bool = False, last: bool = False
    ) -> Row:
        images = np.concatenate([moment.seen[None], images[picks]])
        words = [say_action(action, moment.has_choices) for action in actions[picks]]
        words = ["", *words] if any(words) else []
        if framed:
            return Row(label, images, valid, seen, last, words)
        return Row(label, images, nothing, plain, last, words)

    rows = [
        row("what came", moment.truth, moment.done, framed=True),
        row("the plan", moment.plan, moment.plan_actions, last=True),
    ]
    for name, images, actions, returns in (
        ("after", moment.last, moment.last_actions, moment.last_returns),
        ("before", moment.first, moment.first_actions, moment.first_returns),
    ):
        for number, (future, done, value) in enumerate(zip(images, actions, returns, strict=True)):
            label = f"{name}: {value:.3g}"
            rows.append(row(label, future, done, last=number == len(images) - 1))
    return draw_strip(
        f"Row {moment.row}: futures that the planner considered, drawn by the model",
        ["seen", *(f"+{pick + 1}" for pick in picks)],
        rows,
        foot="Left: imagined returns of candidates, the best after the search, any before it."
        " Below an image: the action that led to it",
        palette=palette,
    )


def draw_video(prediction: Prediction, palette: Palette = LIGHT) -> list[Images]:
    """A frame for each row, the windows side by side."""
    shown = slice(0, EPISODES_SHOWN)
    columns = [f"episode {number}" for number in range(len(prediction.truth[shown]))]
    frames = []
    for row in range(prediction.truth.shape[1]):
        ahead = row + 1 - prediction.context
        frames.append(
            draw_strip(
                "Open loop: seen first, then imagined",  # the same in all frames: one size
                columns,
                _three(
                    prediction.truth[shown, row],
                    prediction.model[shown, row],
                    valid=prediction.valid[shown, row],
                    seen=np.full(len(columns), ahead <= 0),
                ),
                foot=f"sees image {row + 1} of {prediction.context}"
                if ahead <= 0
                else f"imagines, {ahead} ahead of the last image seen",
                palette=palette,
            )
        )
    return frames


def say_action(action: NDArray[np.floating], has_choices: bool) -> str:
    """An action in a few characters; empty where it has too many numbers."""
    if has_choices:
        return f"choice {action.argmax()}"
    return " ".join(f"{number:+.1f}" for number in action) if len(action) <= NUMBERS_SAID else ""


def _three(
    truth: Images,
    model: Images,
    *,
    valid: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    name: str = "",
) -> list[Row]:
    """Three rows: truth, model, error. Only true images can have been seen."""
    return [
        Row(f"{name}\ntruth" if name else "truth", truth, valid, seen),
        Row("model", model, valid, np.zeros_like(seen)),
        Row("error", paint_error(truth, model), valid, np.zeros_like(seen), gap_below=bool(name)),
    ]


def _error_scale() -> str:
    return f"Error: black is none, brightest is a difference of {FULL_ERROR:g} or more (of 1)"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
