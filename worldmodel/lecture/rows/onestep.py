"""The simple case: one vector of two images, and a network that foresees the next vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldmodel.checks import read
from worldmodel.envs import make_env
from worldmodel.lecture.row import Row, at_least, at_most
from worldmodel.lecture.trials import PENDULUM, believe, learn, probe, record, states, whole
from worldmodel.losses import Consistency
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.presets import load_preset

EPISODES, HELD_OUT, ROWS = 100, 30, 40
UPDATES = 1000

CONFIG = read(
    load_preset("onestep"),
    {**PENDULUM, "replay": {"batch": 24, "length": 10, "tournament": 1}},
)


@dataclass(frozen=True)
class WithoutBar(Consistency):
    """The encoded latent moves to the predicted one too."""

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        apart = seen.prior.features - seen.posterior.features
        distance = 0.5 * apart.square().sum(-1)
        return {"consistency": self.weight * distance * seen.follows}


def measure(seed: int, broken: bool) -> Mapping[str, float]:
    """Errors are squared distances of latents, on episodes that were not learned from."""
    env = make_env("pendulum", CONFIG.env)
    seen, held = (record(env, n, ROWS, 1000 * seed + n) for n in (EPISODES, HELD_OUT))
    objective = CONFIG.objective
    if broken:
        objective = replace(objective, image=None, consistency=WithoutBar())
    model = learn(replace(CONFIG, seed=seed), seen, UPDATES, objective=objective)
    batch = whole(held)
    features, z = (believe(model, part).features for part in (whole(seen), batch))
    with torch.no_grad():
        foreseen = model.imagine(believe(model, batch), batch.action.roll(-1, 1)[:, :, None], None)
    following, foreseen_z = z[:, 1:], foreseen.features[:, :-1, 0]
    others = foreseen_z.roll(1, 0)
    angle = probe(features, states(seen, "orientation"), z, states(held, "orientation"))
    speed = probe(
        features[:, 1:], states(seen, "velocity")[:, 1:], z[:, 1:], states(held, "velocity")[:, 1:]
    )
    return {
        "error_over_identity": squared(foreseen_z - following) / squared(z[:, :-1] - following),
        "latent_variance": squared(z - z.mean((0, 1))),
        "angle_r2": float(angle.min()),
        "velocity_r2": float(speed[0]),
        "error_of_other_episode_over_identity": squared(others - following)
        / squared(z[:, :-1] - following),
    }


def squared(apart: Tensor) -> float:
    """The mean squared length: [..., F] -> a number"""
    return float(apart.square().sum(-1).mean())


ROW = Row(
    name="onestep",
    idea="the next latent of two images follows from the last one and the action",
    broken="the encoded latent moves to the predicted one too, and no image is drawn: it collapses",
    passes={
        "error_over_identity": at_most(0.1),
        "latent_variance": at_least(0.1),
        "angle_r2": at_least(0.8),
    },
    reds=("latent_variance", "angle_r2"),
    short=True,
    settings=CONFIG,
    measure=measure,
)
