"""The section on a marked pixel: a film of its probability, and a picture to choose another in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.analysis import Followed, follow_pixel, image_change
from worldmodel.report.folder import Folder
from worldmodel.report.page import Picker, Section
from worldmodel.report.palette import LIGHT, Palette
from worldmodel.report.strips import Images, Row, Strip, draw_strip, few
from worldmodel.structs import Episode, Latent, at

MARK = np.array((255.0, 64.0, 160.0))  # the colour of probability: no task of the suite has it


def show_marks(
    folder: Folder, agent: Agent, episodes: Sequence[Episode], beliefs: Latent, run: Path | None
) -> list[Section]:
    """The episode in which most moves; nothing for models that do not predict in image space."""
    if not agent.can_mark:
        return []
    spec = agent.model.spec
    number = int(np.argmax([image_change(episode, spec).sum() for episode in episodes]))
    followed = follow_pixel(agent, episodes[number], at(beliefs, number))
    (row, column), (end_row, end_column) = followed.pixel, likeliest(followed.maps[-1])
    count = len(followed.maps)
    largest = followed.maps[-1].max()
    return [
        Section(
            "Where it expects a marked pixel to go",
            f"The pixel at row {row}, column {column} was marked in image {followed.row} of episode"
            f" {number} and followed without images. After {count} rows it is most likely at row"
            f" {end_row}, column {end_column}: {largest:.0%} of its probability is there.",
            "The coloured spot should stay on what was marked. A spot that spreads means that the"
            " model is no longer sure.",
            [
                folder.video("mark", film(followed), "the probability of a marked pixel"),
                folder.strip("mark.png", strip(followed)),
                picker(followed, (end_row, end_column), run),
            ],
            "The kernels that move the image move the probability too; new paint moves none of it."
            " The marked pixel is the one that differs most from the mean image of its episode. In"
            " the picture, click a pixel and then a goal: the page only writes the command. The"
            " command marks that place in the first image of each episode it plays, which may show"
            " something else there.",
        )
    ]


def likeliest(probability: NDArray[np.float32]) -> tuple[int, int]:
    row, column = np.unravel_index(int(probability.argmax()), probability.shape)
    return int(row), int(column)


def painted(images: Images, maps: NDArray[np.float32]) -> Images:
    """Images with the probability in colour, full at each map's largest: [L, H, W, 3]"""
    share = (maps / maps.max((-1, -2), keepdims=True))[..., None]
    mixed: Images = (images * (1 - share) + MARK * share).round().astype(np.uint8)
    return mixed


def rows_of(followed: Followed, picks: list[int]) -> list[Row]:
    """Three rows of pictures; column 0 is the last image seen, with the mark."""
    start = np.zeros((1, *followed.maps.shape[1:]), np.float32)
    start[0][followed.pixel] = 1.0
    seen = followed.seen[None]
    lines = (
        ("truth", np.concatenate([seen, followed.truth])),
        ("model", np.concatenate([seen, followed.images])),
        (
            "probability",
            painted(
                np.concatenate([seen, followed.images]), np.concatenate([start, followed.maps])
            ),
        ),
    )
    valid, is_seen = np.ones(len(picks), np.bool_), np.array(picks) == 0
    return [Row(label, images[picks], valid, is_seen) for label, images in lines]


def strip(followed: Followed) -> Strip:
    picks = few(len(followed.maps) + 1)
    return Strip(
        "A marked pixel, followed without images",
        ["seen" if pick == 0 else f"+{pick}" for pick in picks],
        rows_of(followed, picks),
        list(range(len(picks))),
        foot="Blue frame: the model saw it. Pink: probability.",
    )


def film(followed: Followed, palette: Palette = LIGHT) -> list[Images]:
    """A frame for each row: truth, model and probability side by side."""
    frames = []
    for pick in range(len(followed.maps) + 1):
        rows = rows_of(followed, [pick])
        side = Row(
            "",
            np.concatenate([row.images for row in rows]),
            np.ones(3, np.bool_),
            np.full(3, pick == 0),
        )
        title = "seen" if pick == 0 else f"imagined: {pick} ahead"
        mark = Strip(
            title,
            [row.label for row in rows],
            [side],
            (),
            mark="seen" if pick == 0 else "imagined",
        )
        frames.append(draw_strip(mark, palette, room_below=60))
    return frames


def picker(followed: Followed, goal: tuple[int, int], run: Path | None) -> Picker:
    from PIL import Image  # it comes with imageio, which a robot may not have

    picture = io.BytesIO()
    Image.fromarray(followed.seen).save(picture, "png")
    height, width = followed.seen.shape[:2]
    command = f"worldmodel eval {'RUN' if run is None else run}"
    return Picker(picture.getvalue(), height, width, command, followed.pixel, goal)
