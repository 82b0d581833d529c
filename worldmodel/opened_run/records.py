"""Records of an opened run: arrays whose axes have names.

The class attribute ``axes`` names the axes of each array. Axes of one name have one size in a
record; a record that breaks this cannot be made. As text, a record is a table of its arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from worldmodel.columns import aligned
from worldmodel.structs import Episode

Axes = Mapping[str, tuple[str, ...]]
"""The names of the axes of each array, by the array's name"""

Kind = TypeVar("Kind")

OWN_SIZE = "number"  # an axis that has another size in each of the vectors

ROW, STEP, CANDIDATE = ("row",), ("step",), ("iteration", "candidate")
IMAGE = ("height", "width", "channel")
DISTANCE, BY_EPISODE = ("distance",), ("episode", "distance")
VECTORS = ("row", OWN_SIZE)


def arrays(record: Any) -> Iterator[tuple[str, NDArray[Any], tuple[str, ...]]]:
    """Name, array and axes of each array; those of a mapping are called ``field[name]``."""
    for name, axes in record.axes.items():
        value = getattr(record, name)
        if isinstance(value, Mapping):
            for key, array in value.items():
                yield f"{name}[{key!r}]", array, axes
        else:
            yield name, value, axes


def check_axes(record: Any) -> None:
    """Raise unless each array has its axes, and axes of one name have one size."""
    sizes: dict[str, int] = {}
    kind = type(record).__name__
    for name, array, axes in arrays(record):
        if array.ndim != len(axes):
            raise ValueError(f"{kind}.{name}: expected axes {axes}, got shape {array.shape}")
        for axis, size in zip(axes, array.shape, strict=True):
            if axis != OWN_SIZE and sizes.setdefault(axis, size) != size:
                raise ValueError(f"{kind}.{name}: expected {sizes[axis]} along {axis}, got {size}")


def as_table(record: Any) -> str:
    """The record as text: its plain values, then each array's name, shape, type and axes."""
    plain = [
        f"{f.name}={getattr(record, f.name)!r}"
        for f in fields(record)
        if f.name not in record.axes and f.repr
    ]
    rows = [
        (name, str(array.shape), str(array.dtype), ", ".join(axes))
        for name, array, axes in arrays(record)
    ]
    return f"{type(record).__name__}({', '.join(plain)})\n{aligned(rows, indent='  ')}"


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def record(kind: type[Kind]) -> type[Kind]:
    """A frozen dataclass whose axes are checked when it is made; as text, a table."""
    for name, verb in (("__post_init__", check_axes), ("__repr__", as_table)):
        setattr(kind, name, verb)
    return dataclass(frozen=True, eq=False, repr=False)(kind)


@record
class Scores:
    """The evaluations of a run; NaN where an evaluation has fewer episodes than another."""

    env_steps: NDArray[np.int64]  # simulator steps collected for training so far
    wall_clock_s: NDArray[np.float64]
    returns: NDArray[np.float64]
    mean: NDArray[np.float64]  # the score

    axes: ClassVar[Axes] = {
        "env_steps": ("evaluation",),
        "wall_clock_s": ("evaluation",),
        "returns": ("evaluation", "episode"),
        "mean": ("evaluation",),
    }


@record
class Metrics(Mapping[str, NDArray[np.float64]]):
    """Every number of the training by its name; NaN at lines that do not hold it."""

    columns: Mapping[str, NDArray[np.float64]]

    axes: ClassVar[Axes] = {"columns": ("line",)}

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


@record
class Numbers:
    """One number of the training, at each line of the run's metrics that holds it."""

    name: str
    env_steps: NDArray[np.int64]
    wall_clock_s: NDArray[np.float64]
    values: NDArray[np.float64]

    axes: ClassVar[Axes] = {
        "env_steps": ("line",),
        "wall_clock_s": ("line",),
        "values": ("line",),
    }


@record
class HeldoutEpisode:
    """An episode of the last evaluation, which the model was not trained on."""

    number: int
    images: NDArray[np.uint8]  # the newest of each row; several cameras side by side
    actions: NDArray[np.float32]  # that led to the row
    rewards: NDArray[np.float32]
    discounts: NDArray[np.float32]
    env_steps: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]
    episode: Episode = field(repr=False)  # as the agent and worldmodel.analysis take it

    axes: ClassVar[Axes] = {
        "images": (*ROW, *IMAGE),
        "actions": (*ROW, "action"),
        "rewards": ROW,
        "discounts": ROW,
        "env_steps": ROW,
        "vectors": VECTORS,
    }

    def __len__(self) -> int:
        return len(self.rewards)


@record
class EpisodePrediction:
    """What the model makes of an episode: it sees the first rows, and imagines the others.

    Errors are mean squared errors, of pixels in [0, 1]. They are measured as in the report: the
    model's guess is the mean of several sampled futures. ``model_images`` is one future, without
    chance.
    """

    episode: int
    begin: int  # the first row, in the episode
    seen: int  # rows whose images the model saw
    images: NDArray[np.uint8]
    model_images: NDArray[np.uint8]  # reconstructed in the rows seen, imagined after them
    rewards: NDArray[np.float32]
    model_rewards: NDArray[np.float32]
    error: NDArray[np.float64]  # of the model's images, by rows ahead: 1, 2, ...
    error_hold_last: NDArray[np.float64]  # of the last image seen
    error_mean_image: NDArray[np.float64]  # of the mean image of the training
    reward_error: NDArray[np.float64]
    reward_error_hold_last: NDArray[np.float64]
    vectors: Mapping[str, NDArray[np.float32]]
    model_vectors: Mapping[str, NDArray[np.float32]]

    axes: ClassVar[Axes] = {
        "images": (*ROW, *IMAGE),
        "model_images": (*ROW, *IMAGE),
        "rewards": ROW,
        "model_rewards": ROW,
        "error": DISTANCE,
        "error_hold_last": DISTANCE,
        "error_mean_image": DISTANCE,
        "reward_error": DISTANCE,
        "reward_error_hold_last": DISTANCE,
        "vectors": VECTORS,
        "model_vectors": VECTORS,
    }


@record
class DistanceErrors:
    """Mean squared errors by rows ahead, over windows of all held-out episodes, as in the report.

    Pixels lie in [0, 1]. *hold-last* repeats the last image or reward seen.
    """

    ahead: NDArray[np.int64]  # 1 is the first row that is imagined
    windows: NDArray[np.int64]  # how many windows each mean is over
    model: NDArray[np.float64]  # of images
    hold_last: NDArray[np.float64]
    mean_image: NDArray[np.float64]
    reward_model: NDArray[np.float64]
    reward_hold_last: NDArray[np.float64]
    reward_mean: NDArray[np.float64]
    episodes: NDArray[np.int64]  # numbers of the episodes; too short ones are left out
    model_by_episode: NDArray[np.float64]  # NaN: the episode does not reach so far
    hold_last_by_episode: NDArray[np.float64]
    mean_image_by_episode: NDArray[np.float64]

    axes: ClassVar[Axes] = {
        "ahead": DISTANCE,
        "windows": DISTANCE,
        "model": DISTANCE,
        "hold_last": DISTANCE,
        "mean_image": DISTANCE,
        "reward_model": DISTANCE,
        "reward_hold_last": DISTANCE,
        "reward_mean": DISTANCE,
        "episodes": ("episode",),
        "model_by_episode": BY_EPISODE,
        "hold_last_by_episode": BY_EPISODE,
        "mean_image_by_episode": BY_EPISODE,
    }


@record
class Plans:
    """One decision: the candidates that the planner compared, its plan, and what came.

    An iteration with fewer candidates than another is filled up with NaN. Returns are imagined.
    ``done`` are the actions of the episode: later plans chose all but the first.
    """

    episode: int
    row: int  # of the last image seen
    iterations: int
    plan_return: float
    candidates: NDArray[np.float32]
    returns: NDArray[np.float32]  # of the candidates
    elites: NDArray[np.float32]  # of the last iteration, the best first
    plan: NDArray[np.float32]  # the actions chosen
    plan_images: NDArray[np.uint8]  # the model's pictures of the plan
    done: NDArray[np.float32]
    images: NDArray[np.uint8]  # that came

    axes: ClassVar[Axes] = {
        "candidates": (*CANDIDATE, *STEP, "action"),
        "returns": CANDIDATE,
        "elites": ("elite", *STEP, "action"),
        "plan": (*STEP, "action"),
        "plan_images": (*STEP, *IMAGE),
        "done": (*STEP, "action"),
        "images": (*STEP, *IMAGE),
    }


@record
class ProbeScores:
    """True quantities, as a linear probe reads them from the model's beliefs.

    Each row is read by a probe that was not fitted on its episode. R² is 1 if all is right, and 0
    if the probe is no better than the mean.
    """

    names: tuple[str, ...]  # of the quantities
    r_squared: NDArray[np.float64]
    lowest: NDArray[np.float64]  # of the single episodes
    highest: NDArray[np.float64]
    true: NDArray[np.float64]
    read: NDArray[np.float64]
    episode: NDArray[np.int64]  # number of each row's episode

    axes: ClassVar[Axes] = {
        "r_squared": ("quantity",),
        "lowest": ("quantity",),
        "highest": ("quantity",),
        "true": ("quantity", "row"),
        "read": ("quantity", "row"),
        "episode": ROW,
    }


@record
class Latents:
    """The model's beliefs along all held-out episodes, and their first principal components."""

    features: NDArray[np.float64]
    points: NDArray[np.float64]  # the first components, the largest first
    shares: NDArray[np.float64]  # of the variance
    episode: NDArray[np.int64]  # number of each row's episode
    row: NDArray[np.int64]  # its number in the episode

    axes: ClassVar[Axes] = {
        "features": ("row", "feature"),
        "points": ("row", "component"),
        "shares": ("component",),
        "episode": ROW,
        "row": ROW,
    }
