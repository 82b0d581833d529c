"""Contrastive learning: latents without a decoder leave out what nobody can foresee."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import Environment, EnvSettings, make_env
from worldmodel.envs.altered import Altered
from worldmodel.lecture.row import Row, at_least
from worldmodel.lecture.trials import Recorded, believe, learn, probe, record, states, whole
from worldmodel.losses import Contrastive
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.presets import load_preset
from worldmodel.structs import Step

EPISODES, HELDOUT, ROWS = 300, 20, 40
UPDATES = 1200
DISKS = 2
BACKGROUND, ROD_GREEN = 255, 77  # of the task's images

ENV = EnvSettings(image_size=32, action_repeat=2)
SMALL = {
    "task": "pendulum",
    "env": {"image_size": 32, "action_repeat": 2},
    "replay": {"batch": 16, "length": 10},
    "model": {
        "encoder": {"width": 8},
        "dynamics": {"size": 16, "hidden_size": 64},
        "posterior": {"hidden_size": 64},
        "reward": None,
        "discount": None,
    },
    "objective": {"reward": None, "discount": None, "priority": None},
    "learner": {"precision": "float32", "model_rate": 1e-3},
}
CONTRASTIVE = read(load_preset("contrastive"), SMALL)
RECONSTRUCTION = read(
    CONTRASTIVE,
    {
        "model": {"contrast": None, "decoder": {"kind": "slim", "width": 4}},
        "objective": {"contrastive": None, "image": {"decoded_share": 0.25}},
    },
)


@dataclass(frozen=True)
class Shuffled(Contrastive):
    """Each row's target is the image of another row, so there are no positives."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        order = torch.randperm(seen.posterior.shape.numel(), generator=random)

        def shuffled(images: Tensor) -> Tensor:
            return images.flatten(0, 1)[order].reshape(images.shape)

        batch = replace(seen.batch, image=shuffled(seen.batch.image))
        other = replace(seen, batch=batch, pixels=shuffled(seen.pixels))
        return super().__call__(model, other, random)


def disks_behind(random: np.random.Generator) -> Callable[[Environment, Step], Step]:
    """Behind the rod are coloured disks, in every row at other places: no past foretells them."""

    def change(env: Environment, row: Step) -> Step:
        image: NDArray[np.uint8] = row.image
        size = len(image)
        axis = (np.arange(size) + 0.5) / size
        behind = np.full(image.shape, float(BACKGROUND))
        for _ in range(DISKS):
            across, down = random.uniform(0, 1, 2)
            distance = np.hypot(axis[:, None] - down, axis[None, :] - across)
            covered = ((random.uniform(0.1, 0.25) - distance) * size + 0.5).clip(0, 1)[..., None]
            behind += covered * (255 * random.uniform(0, 1, 3) - behind)
        clear = (image[..., 1:2] - float(ROD_GREEN)) / (BACKGROUND - ROD_GREEN)  # 0: all is rod
        seen = image + clear * (behind - BACKGROUND)
        return replace(row, image=(seen.clip(0, 255) + 0.5).astype(np.uint8))

    return change


def episodes(seed: int, disks: bool) -> tuple[list[Recorded], list[Recorded]]:
    """Episodes to learn from, and held-out ones."""
    env = make_env("pendulum", ENV)
    if disks:
        env = Altered(env, disks_behind(np.random.default_rng([seed, 1])))
    return record(env, EPISODES, ROWS, seed), record(env, HELDOUT, ROWS, seed + 1000)


def angle_r2(config: Config, seed: int, disks: bool, broken: bool = False) -> float:
    """R^2 of a linear probe of the beliefs for cosine and sine of the angle: the lower of both."""
    seen, held = episodes(seed, disks)
    objective = config.objective
    if broken:
        objective = replace(objective, contrastive=Shuffled())
    model = learn(replace(config, seed=seed), seen, UPDATES, objective=objective)
    features, asked = (believe(model, whole(part)).features for part in (seen, held))
    both = probe(features, states(seen, "orientation"), asked, states(held, "orientation"))
    return float(both.min())


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    """``lost``: how much of R^2 the disks cost."""
    contrastive = angle_r2(CONTRASTIVE, seed, disks=True, broken=broken)
    contrastive_clean = angle_r2(CONTRASTIVE, seed, disks=False, broken=broken)
    reconstruction = angle_r2(RECONSTRUCTION, seed, disks=True)
    reconstruction_clean = angle_r2(RECONSTRUCTION, seed, disks=False)
    lost = contrastive_clean - contrastive
    return {
        "angle_r2": contrastive,
        "angle_r2_without_disks": contrastive_clean,
        "reconstruction_loses_more_by": reconstruction_clean - reconstruction - lost,
        "reconstruction_angle_r2": reconstruction,
        "reconstruction_angle_r2_without_disks": reconstruction_clean,
    }


ROW = Row(
    name="contrastive",
    idea="without a decoder, latents hold the angle of a pendulum and not what moves behind it",
    broken="each row's target is the image of another row: there are no positives",
    passes={"angle_r2": at_least(0.9), "reconstruction_loses_more_by": at_least(0.1)},
    reds=("angle_r2",),
    short=True,
    settings={"contrastive": CONTRASTIVE, "reconstruction": RECONSTRUCTION},
    measure=measure,
)
