"""Records that every room passes on, each field with its shape.

One row of experience is *the action that was taken, and the image, reward and discount that came
back*. Row 0 of an episode has a zero action and zero reward. ``Step`` is one row, ``Episode``
stacks rows over time, ``Batch`` stacks windows of episodes. The environment aligns action and
image in the row; no later code shifts time.

Letters, the same everywhere::

    B batch   T time   A action   L look-ahead   N candidates   K elites
    H W C image        E embedding               D S latent parts   F features = D + S
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.images import Fit, ImageFit, Number, Shape, by_camera, shown
from worldmodel.origin import plans_words

Score = Callable[[Tensor], Tensor]
"""The function that a planner maximises: actions [B, N, L, A] -> returns [B, N]."""


@dataclass(frozen=True)
class Step:
    """One row of experience, as ``reset`` and ``step`` of an environment return it."""

    # [H, W, C]; an environment of your own may give images by the names of their cameras, and
    # ``adopt`` fits and joins them
    image: Any
    reward: float = 0.0
    discount: float = 1.0  # 0 where the task itself ended; a time limit leaves it at 1
    is_last: bool = False
    action: NDArray[np.float32] | None = None  # [A] the action done; None: the one requested
    env_steps: int = 1  # simulator steps of this row; 0 in the first row
    # vectors by name, [V] each; the same names and sizes in every row
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    # by the cameras' names: the shapes of their images before they were fitted and joined
    cameras: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def observation(self) -> NDArray[np.uint8] | dict[str, NDArray[Any]]:
        """The input of ``agent.observe``: the image alone, or a dictionary of image and vectors."""
        return {"image": self.image, **self.vectors} if self.vectors else self.image


LARGEST = float(np.finfo(np.float32).max)  # episodes store rewards in float32


def wrong_row(row: Step, first: Step | None = None) -> list[str]:
    """Reasons why a row cannot be learned from, a sentence each; empty if it can.

    ``first``: the first row of the same episode, whose shapes the row must have too.
    """
    wrong, reward = [], row.reward
    if complaint := wrong_image(row.image, first and first.image):
        wrong.append(complaint)
    if np.ndim(reward) > 0:
        wrong.append(f"reward: expected one number, got shape {np.shape(reward)}")
    elif not np.isfinite(reward):
        wrong.append(f"reward: expected a finite number, got {reward}")
    elif abs(reward) > LARGEST:
        wrong.append(f"reward: expected a number that float32 can hold, got {reward}")
    if not 0 <= row.discount <= 1:
        wrong.append(f"discount: expected 0 to 1, got {row.discount}")
    sizes, got = ({n: np.shape(v) for n, v in r.vectors.items()} for r in (first or row, row))
    if got != sizes:
        wrong.append(f"vectors: expected {sizes} as in the first row, got {got}")
    for name, numbers in row.vectors.items():
        vector = np.asarray(numbers)
        if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            wrong.append(f"{name}: expected numbers [V], got {vector.dtype} {vector.shape}")
        elif not np.isfinite(vector).all():
            wrong.append(f"{name}: expected finite numbers, got {vector.tolist()}")
    return wrong


def wrong_image(given: Any, first: Any = None) -> str:
    """Why an image, or images by camera, cannot be fitted; empty if they can.

    ``first``: those of the first row of the episode, whose shapes they must have too.
    """
    try:
        got = {name: image.shape for name, image in by_camera(given).items()}
    except ValueError as error:
        return str(error)
    shapes = got if first is None else {n: image.shape for n, image in by_camera(first).items()}
    if got.keys() != shapes.keys():
        return f"image: expected {', '.join(shapes)} as in the first row; got {', '.join(got)}"
    for name, shape in shapes.items():
        if got[name] != shape:
            return f"{name}: expected uint8 {list(shape)}, got uint8 {list(got[name])}"
    return ""


@dataclass(frozen=True)
class Spec:
    """The shapes of an environment's observations and actions, from which a model is built."""

    image: tuple[int, int, int]  # height, width, channels
    action_size: int
    has_choices: bool = False  # an action is one of action_size choices, one-hot
    vectors: Mapping[str, int] = field(default_factory=dict)  # sizes, by name
    frames: int = 1  # images that are stacked in the channels, the newest last
    fit: Fit = "stretch"  # how images of other shapes are fitted
    # by name: the shapes of the cameras' images before they were fitted; empty in runs that an
    # older version began, where they are not known
    cameras: Mapping[str, Shape] = field(default_factory=dict)

    @classmethod
    def of(cls, env: Acting, first: Step, frames: int = 1, fit: Fit = "stretch") -> Spec:
        """The spec of an environment whose reset returned ``first``."""
        height, width, channels = first.image.shape
        return cls(
            image=(height, width, channels),
            action_size=len(env.action_low),
            has_choices=env.action_count is not None,
            vectors={name: len(vector) for name, vector in first.vectors.items()},
            frames=frames,
            fit=fit,
            cameras=first.cameras,
        )

    @property
    def fitting(self) -> ImageFit:
        """How images of cameras become the image that a model takes."""
        return ImageFit(self.image, self.fit, self.cameras, self.frames)

    def shown(self, images: NDArray[Number]) -> NDArray[Number]:
        """[..., H, W, C] -> [..., H, W', 3]: the newest images, the cameras side by side."""
        return shown(images, self.frames, self.cameras)

    def to_dict(self) -> dict[str, Any]:
        """The value of the field ``spec`` in YAML and JSON files."""
        cameras = {name: list(shape) for name, shape in self.cameras.items()}
        written = {**asdict(self), "image": list(self.image), "vectors": dict(self.vectors)}
        return {**written, "cameras": cameras}

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> Spec:
        """Read from a run's config.yaml or a model file's JSON; older ones have no ``spec``."""
        written = about.get("spec", about)
        has_choices = written.get("has_choices", written.get("action_count") is not None)
        vectors = written.get("vectors") or {}
        frames = written.get("frames") or about["settings"]["env"].get("frames", 1)
        fitting = ImageFit.described({**written, "frames": frames})
        return cls(
            image=fitting.image,
            action_size=int(written["action_size"]),
            has_choices=bool(has_choices),
            vectors={str(name): int(size) for name, size in vectors.items()},
            frames=fitting.frames,
            fit=fitting.fit,
            cameras=fitting.cameras,
        )


class Acting(Protocol):
    """The properties of an environment that ``Spec.of`` reads."""

    @property
    def action_low(self) -> NDArray[np.float32]: ...

    @property
    def action_count(self) -> int | None: ...


@dataclass(frozen=True)
class Episode:
    """An episode: rows stacked over time, from the reset to the last row."""

    image: NDArray[np.uint8]  # [T, H, W, C]
    action: NDArray[np.float32]  # [T, A]
    reward: NDArray[np.float32]  # [T]
    discount: NDArray[np.float32]  # [T]
    env_steps: NDArray[np.int64]  # [T]
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # by name: [T, V]

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def total_reward(self) -> float:
        return float(self.reward.sum(dtype=np.float64))

    @property
    def total_env_steps(self) -> int:
        return int(self.env_steps.sum())

    def cut(self, begin: int, rows: int) -> Episode:
        """The ``rows`` rows from row ``begin`` on."""
        taken = slice(begin, begin + rows)
        vectors = {name: vector[taken] for name, vector in self.vectors.items()}
        arrays = {f.name: getattr(self, f.name)[taken] for f in fields(self) if f.name != "vectors"}
        return replace(self, vectors=vectors, **arrays)

    @classmethod
    def stack(cls, rows: Sequence[Step]) -> Episode:
        return cls(
            image=np.stack([row.image for row in rows]),
            action=np.stack([np.asarray(row.action, np.float32) for row in rows]),
            reward=np.array([row.reward for row in rows], np.float32),
            discount=np.array([row.discount for row in rows], np.float32),
            env_steps=np.array([row.env_steps for row in rows], np.int64),
            vectors={
                name: np.stack([np.asarray(row.vectors[name], np.float32) for row in rows])
                for name in rows[0].vectors
            },
        )


@dataclass(frozen=True)
class Batch:
    """A batch of windows of episodes. Rows after a short episode's end are padding, not valid."""

    image: Tensor  # [B, T, H, W, C] uint8
    action: Tensor  # [B, T, A]
    reward: Tensor  # [B, T]
    discount: Tensor  # [B, T]
    valid: Tensor  # [B, T] bool
    vectors: Mapping[str, Tensor] = field(default_factory=dict)  # by name: [B, T, V]
    # [B, 2] numbers of the episode and of the window's first row, if they come from replay
    window: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))

    def to(self, device: torch.device | str) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "vectors"}
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        vectors = {name: tensor.to(device) for name, tensor in self.vectors.items()}
        return replace(self, vectors=vectors, **moved)


class Latent(Protocol):
    """A model's state of the world; a *belief* when a caller keeps it from step to step.

    Latents are frozen dataclasses of tensors, or of other latents, with the leading axes first in
    every tensor (``models/latents.py``). Only the dynamics that made a latent reads its fields.
    Everyone else uses these three properties, and the functions below.
    """

    @property
    def shape(self) -> torch.Size:
        """The leading axes."""

    @property
    def features(self) -> Tensor:
        """[..., F] the input of heads, goals, probes and maps"""

    @property
    def distribution(self) -> Distribution | None:
        """The distribution that the latent was drawn from; None for a deterministic latent."""


class Distribution(Protocol):
    """The distribution that a latent was drawn from."""

    def divergence(self, prior: Any) -> Tensor:
        """KL(self || prior): [...]"""


Z = TypeVar("Z")


def each(latent: Z, change: Callable[[Tensor], Tensor]) -> Z:
    """Apply ``change`` to every tensor of a latent, also of latents within it."""
    if isinstance(latent, Tensor):
        return change(latent)  # type: ignore[return-value]
    parts = fields(latent)  # type: ignore[arg-type]
    return type(latent)(**{f.name: each(getattr(latent, f.name), change) for f in parts})


def situation(latent: Latent) -> Tensor:
    """What a policy reads: the features [..., F]; after the row's number if latents count rows."""
    row = getattr(latent, "row", None)
    features = latent.features
    if row is None:
        return features
    return torch.cat([row[..., None].float(), features.float()], -1)


def at(latent: Z, index: Any) -> Z:
    """Index the leading axes: ``at(latent, (slice(None), -1))``."""
    return each(latent, lambda part: part[index])


def repeat(latent: Z, count: int) -> Z:
    """Repeat along a new last leading axis: [B] -> [B, count], without a copy."""
    axes = len(latent.shape)  # type: ignore[attr-defined]

    def expanded(part: Tensor) -> Tensor:
        shape = (*part.shape[:axes], count, *part.shape[axes:])
        return part.unsqueeze(axes).expand(shape)

    return each(latent, expanded)


def flatten(latent: Z) -> Z:
    """Merge all leading axes: [B, T] -> [B * T]"""
    axes = len(latent.shape)  # type: ignore[attr-defined]
    return each(latent, lambda part: part.flatten(0, axes - 1))


def stack(latents: Iterable[Z], dim: int) -> Z:
    """Stack latents along a new leading axis."""
    parts = list(latents)
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.stack(parts, dim)  # type: ignore[arg-type, return-value]
    return type(first)(
        **{f.name: stack([getattr(part, f.name) for part in parts], dim) for f in fields(first)}  # type: ignore[arg-type]
    )


def leaves(latent: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor by its path: ``{"deter": [..., D], "stoch.mean": [..., S], ...}``"""
    tensors: dict[str, Tensor] = {}
    for f in fields(latent):
        part = getattr(latent, f.name)
        name = f"{prefix}{f.name}"
        tensors |= {name: part} if isinstance(part, Tensor) else leaves(part, f"{name}.")
    return tensors


def with_leaves(latent: Z, tensors: Iterable[Tensor]) -> Z:
    """A latent of the same kind with other tensors, in the order of ``leaves``."""
    remaining = iter(tensors)
    return each(latent, lambda part: next(remaining))


@dataclass(frozen=True)
class Search:
    """The result of a planner's search, for a batch."""

    actions: Tensor  # [B, L, A]
    value: Tensor  # [B] the mean return of the elites
    elites: Tensor  # [B, K, L, A] best first
    iterations: int  # only those that scored every candidate


@dataclass(frozen=True, repr=False)
class Plan:
    """A plan of an agent. Shapes are for one robot; for several each tensor has B in front."""

    actions: Tensor  # [L, A]
    value: Tensor  # [] the elites' mean imagined return; NaN: there was no time for a search
    elites: Tensor  # [K, L, A] the best candidates of the last iteration, best first
    iterations: int  # only those that scored every candidate
    milliseconds: float
    # [] False if the model predicts that the actions break limits.allowed, and no candidate that
    # keeps it was found
    is_allowed: Tensor = field(default_factory=lambda: torch.tensor(True))
    # where the actions come from; without time for a search: the policy, or the previous plan
    # shifted by one row
    origin: Literal["search", "policy", "previous"] = "search"

    def __repr__(self) -> str:
        said = plans_words(self.origin, self.first, self.value, self.iterations, self.milliseconds)
        return f"Plan({said})"

    @property
    def first(self) -> NDArray[np.float32]:
        """[A] the action to execute now."""
        first: NDArray[np.float32] = self.actions[..., 0, :].float().cpu().numpy()
        return first

    @property
    def sequence(self) -> NDArray[np.float32]:
        """[L, A] all actions, the one to execute now first."""
        actions: NDArray[np.float32] = self.actions.detach().float().cpu().numpy()
        return actions

    def of_robot(self, number: int) -> Plan:
        """The plan of one robot of a batch."""
        return replace(
            self,
            actions=self.actions[number],
            value=self.value[number],
            elites=self.elites[number],
            is_allowed=self.is_allowed[number],
        )

    def after(self, rows: int) -> Plan:
        """The same plan so many rows later: without its first actions."""
        return replace(self, actions=self.actions[..., rows:, :], elites=self.elites[..., rows:, :])
