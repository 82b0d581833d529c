"""Strips: rows of labelled images. The page shows them as tiles; a file holds them as one picture.

Pictures are drawn with Pillow, which comes with imageio, and so do not need matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.analysis import Alternatives, Futures, Moment, Prediction
from worldmodel.report.palette import LIGHT, Palette

CELL = 150  # least size of an enlarged image, in screen pixels
GAP, MARGIN = 10, 22
LABELS = 150  # width of the row labels, at least
TITLE_SIZE, LABEL_SIZE = 26, 20
FULL_ERROR = 0.5  # differences (at most 1) from here on are drawn brightest
FULL_SPREAD = 0.25  # the same for the standard deviation of several futures
# from black over vermilion to pale yellow: lightness only rises, so colour-blind eyes order it too
ERROR_STOPS = ((0, 0, 0), (120, 32, 10), (213, 94, 0), (246, 180, 70), (255, 250, 215))
STRIP_AHEAD = (1, 5, 10, 15, 20, 30, 45)  # rows after the context in a strip
PHONE_AHEAD = (1, 5, 15, 45)  # those that a narrow screen shows, next to the last image seen
PHONE_COLUMNS = 5
STRIP_MOMENTS = 8  # rows of an episode whose reconstructions are drawn
EPISODES_SHOWN = 4
STRIP_EPISODES = 2  # in a strip; the film shows EPISODES_SHOWN
FUTURES_SHOWN = 4
PLAN_STEPS = 7  # rows of a look-ahead in a strip, the first and the last included
NUMBERS_SAID = 2  # most numbers of an action that are written: more do not fit below an image

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
    heads: Sequence[str] = ()  # [N] above the images, or none


@dataclass(frozen=True)
class Strip:
    """Rows of images under common columns."""

    title: str
    columns: Sequence[str]  # [N]
    rows: Sequence[Row]
    phone: Sequence[int]  # the columns that a narrow screen shows
    foot: str = ""
    mark: Literal["", "seen", "imagined"] = ""  # the colour of the title


def few(count: int) -> list[int]:
    """PHONE_COLUMNS of ``count`` columns, evenly spaced, with the first and the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(PHONE_COLUMNS, count))})


def paint_error(truth: Images, model: Images) -> Images:
    """[..., H, W, 3] twice -> [..., H, W, 3]: a colour for each pixel's largest difference"""
    return paint_share(np.abs(truth.astype(np.int16) - model).max(-1) / (255 * FULL_ERROR))


def paint_spread(spread: NDArray[np.float64]) -> Images:
    """[..., H, W, 3] -> [..., H, W, 3]: a colour for each pixel's largest standard deviation"""
    return paint_share(spread.max(-1) / FULL_SPREAD)


def paint_share(share: NDArray[np.floating]) -> Images:
    """[...] -> [..., 3]: a colour for each number; 1 and more is the brightest"""
    stops = np.linspace(0, 1, len(ERROR_STOPS))
    colours = np.array(ERROR_STOPS, float)
    painted = np.stack([np.interp(share, stops, colours[:, c]) for c in range(3)], -1)
    return painted.round().astype(np.uint8)


def draw_strip(strip: Strip, palette: Palette = LIGHT, room_below: int = 0) -> Images:
    """[H, W, 3]; H and W are even, as mp4 requires"""
    from PIL import Image, ImageDraw  # they come with imageio, which a robot may not have

    rows, count = strip.rows, len(strip.columns)
    height, width = rows[0].images.shape[1:3]
    scale = max(1, -(-CELL // max(height, width)))
    height, width = scale * height, scale * width
    top = MARGIN + TITLE_SIZE + 14 + (LABEL_SIZE + 10 if any(strip.columns) else 0)
    tops = []
    for row in rows:
        top += LABEL_SIZE + 10 if row.heads else 0
        tops.append(top)
        top += height + (LABEL_SIZE + 4 if row.words else 0)
        top += 3 * GAP if row.gap_below else GAP
    bottom = top + (LABEL_SIZE + 14 if strip.foot else 0) + MARGIN - GAP + room_below
    labels = _label_width(rows)
    right = labels + MARGIN + count * (width + GAP) - GAP + MARGIN
    lines = _font(TITLE_SIZE).getlength(strip.title), _font(LABEL_SIZE).getlength(strip.foot)
    right = max(right, int(max(lines)) + 1 + 2 * MARGIN)
    canvas = Image.new("RGB", (right + right % 2, bottom + bottom % 2), palette.card)
    draw = ImageDraw.Draw(canvas)
    colour = {"": palette.ink, "seen": palette.model, "imagined": palette.hold_last}[strip.mark]
    draw.text((MARGIN, MARGIN - 4), strip.title, colour, _font(TITLE_SIZE))
    lefts = [labels + MARGIN + number * (width + GAP) for number in range(count)]
    for left, column in zip(lefts, strip.columns, strict=True):
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
        for words, foot in ((row.words, top + height + LABEL_SIZE), (row.heads, top - 8)):
            for left, word in zip(lefts, words, strict=False):
                middle = (left + width // 2, foot)
                draw.text(middle, word, palette.quiet, _font(LABEL_SIZE), anchor="ms")
    if strip.foot:
        place = (MARGIN, bottom - MARGIN - room_below)
        draw.text(place, strip.foot, palette.quiet, _font(LABEL_SIZE), anchor="ls")
    return np.asarray(canvas)


def _label_width(rows: Sequence[Row]) -> int:
    names = [line for row in rows for line in row.label.split("\n")]
    widest = max(_font(LABEL_SIZE).getlength(name) for name in names)
    return max(LABELS, int(widest) + MARGIN) if widest else 0


def strip_reconstructions(truth: Images, model: Images, moments: Sequence[int]) -> Strip:
    """The rows ``moments`` of one episode; ``truth`` and ``model``: [N, H, W, 3]."""
    everything = np.ones(len(truth), np.bool_)
    return Strip(
        "Reconstruction: the model sees the true image and draws it again from its belief",
        [f"row {moment}" for moment in moments],
        three_rows(truth, model, valid=everything, seen=~everything),
        few(len(moments)),
        foot=error_scale(),
    )


def strip_open_loop(prediction: Prediction, first: int = 0) -> Strip:
    """Some rows of the first windows, one window below the other; ``first``: its episode."""
    seen = prediction.context - 1
    length = prediction.truth.shape[1]
    picks = [0, seen] if seen else [seen]
    picks += [seen + ahead for ahead in STRIP_AHEAD if seen + ahead < length]
    if length - 1 not in picks:
        picks.append(length - 1)
    rows = []
    for window in range(min(STRIP_EPISODES, len(prediction.truth))):
        rows += three_rows(
            prediction.truth[window, picks],
            prediction.model[window, picks],
            valid=prediction.valid[window, picks],
            seen=np.array(picks) <= seen,
            name=f"episode {first + window}",
        )
    wanted = {seen, *(seen + ahead for ahead in PHONE_AHEAD)}
    phone = [place for place, pick in enumerate(picks) if pick in wanted]
    if len(phone) < min(PHONE_COLUMNS, len(picks)):
        phone = few(len(picks))
    return Strip(
        f"Open loop: the model saw {prediction.context} images, then imagined from the actions"
        " alone",
        [f"seen {pick + 1}" if pick <= seen else f"+{pick - seen}" for pick in picks],
        rows,
        phone,
        foot=f"{error_scale()}. Blue frame: the model saw it.",
    )


def strip_plans(moment: Moment) -> Strip:
    """One decision: the images that followed, the plan, and candidates after and before."""
    length = len(moment.truth)
    picks = _spaced(length)
    plain = np.zeros(len(picks) + 1, np.bool_)
    seen = plain.copy()
    seen[0] = True

    def row(
        label: str, images: Images, actions: Actions, *, framed: bool = False, last: bool = False
    ) -> Row:
        images = np.concatenate([moment.seen[None], images[picks]])
        words = [say_action(action, moment.has_choices) for action in actions[picks]]
        words = ["", *words] if any(words) else []
        if framed:
            return Row(label, images, ~plain, seen, last, words)
        return Row(label, images, ~seen, plain, last, words)

    rows = [
        row("what came", moment.truth, moment.done, framed=True),
        row("the plan", moment.plan, moment.plan_actions, last=True),
    ]
    for when, ranks, images, actions, returns in (
        ("after", ("best", "worst elite"), moment.last, moment.last_actions, moment.last_returns),
        (
            "before",
            ("best", "middle", "worst"),
            moment.first,
            moment.first_actions,
            moment.first_returns,
        ),
    ):
        for number, (rank, future, done, value) in enumerate(
            zip(ranks, images, actions, returns, strict=True)
        ):
            label = f"{when}, {rank}\n{value - moment.plan_return:+.2g}"
            rows.append(row(label, future, done, last=number == len(images) - 1))
    return Strip(
        f"Row {moment.row}: futures that the planner considered, drawn by the model",
        ["seen", *(f"+{pick + 1}" for pick in picks)],
        rows,
        few(len(picks) + 1),
        foot="Left: candidates after and before the search; the number is the imagined return,"
        " compared with the plan's. Below an image: the action that led to it.",
    )


def strip_futures(futures: Futures) -> Strip:
    """Several futures of the same belief and the same actions, and how much they differ."""
    picks = [ahead - 1 for ahead in STRIP_AHEAD if ahead <= len(futures.truth)]
    plain = np.zeros(len(picks), np.bool_)
    spread = futures.spread[picks]
    drawn = [(f"future {n + 1}", images) for n, images in enumerate(futures.images[:FUTURES_SHOWN])]
    rows = [Row("truth", futures.truth[picks], ~plain, plain, gap_below=True)]
    rows += [Row(name, images[picks], ~plain, plain) for name, images in drawn]
    words = [f"{apart:.3f}" for apart in spread.mean((1, 2, 3))]
    rows.append(Row("spread", paint_spread(spread), ~plain, plain, words=words))
    return Strip(
        f"Row {futures.row}: futures drawn from one belief, with the same actions",
        [f"+{pick + 1}" for pick in picks],
        rows,
        few(len(picks)),
        foot=f"Spread: standard deviation over {len(futures.images)} futures; black is none,"
        f" brightest is {FULL_SPREAD:g} or more (of 1). Below it: its mean over the image.",
    )


def strip_alternatives(alternatives: Alternatives) -> Strip:
    """The futures that other actions would bring, one row each."""
    picks = _spaced(alternatives.images.shape[1])
    plain = np.zeros(len(picks), np.bool_)
    sums = alternatives.reward.sum(1)
    decimals = max(0, 2 - math.floor(math.log10(max(np.abs(sums).max(), 1e-6))))  # 3 digits
    rows = [
        Row(f"{name}\nreward {total:.{decimals}f}", images[picks], ~plain, plain)
        for name, images, total in zip(alternatives.names, alternatives.images, sums, strict=True)
    ]
    return Strip(
        f"Row {alternatives.row}: the same belief, other actions",
        [f"+{pick + 1}" for pick in picks],
        rows,
        few(len(picks)),
        foot="Left: the actions, and the sum of the rewards that the model imagines for them.",
    )


def say_action(action: NDArray[np.floating], has_choices: bool) -> str:
    """An action in a few characters; empty where it has too many numbers."""
    if has_choices:
        return f"choice {action.argmax()}"
    return " ".join(f"{number:+.1f}" for number in action) if len(action) <= NUMBERS_SAID else ""


def _spaced(length: int) -> list[int]:
    """PLAN_STEPS rows of a look-ahead, evenly spaced, with the first and the last."""
    places = np.linspace(0, length - 1, min(PLAN_STEPS, length))
    return sorted({round(place) for place in places})


def three_rows(
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


def error_scale() -> str:
    return f"Error: black is none, brightest is a difference of {FULL_ERROR:g} or more (of 1)"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
