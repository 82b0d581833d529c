"""The environment of a run, with the renderer that the run was trained with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from worldmodel import run_folder
from worldmodel.checks import ConfigError

if TYPE_CHECKING:  # these rooms import torch, and mistakes are answered without it
    from worldmodel.config import Config
    from worldmodel.envs import Environment

Renderer = Literal["auto", "warp", "gl"]


def environment_of(
    run: Path, config: Config, renderer: Renderer | None, *, trust: bool
) -> Environment:
    """Make the run's environment.

    ``renderer``: draw with this one, even if the run was trained with another. It must be given
    explicitly, because another renderer draws different images. ``trust``: a module that the run's
    task names may be imported.
    """
    from worldmodel import envs

    recorded = run_folder.read_about(run)["environment"].get("renderer")
    settings = dataclasses.replace(config.env, renderer=renderer or config.env.renderer)
    env = envs.make_env_of_file(config.task, settings, config.seed, trust=trust)
    found = env.describe().get("renderer")
    if renderer not in (None, "auto", found):
        env.close()
        raise ConfigError(f"renderer: {config.task} is drawn by {found} alone, got {renderer}")
    if found == recorded:
        return env
    if renderer is None:
        env.close()
        raise ConfigError(
            f"renderer: {run} was trained on images of {recorded}, here {found} would draw them;"
            f" choose one: --renderer {recorded} or --renderer {found}"
        )
    print(f"images are drawn by {found}; the run was trained on images of {recorded}")
    return env
