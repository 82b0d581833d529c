"""``worldmodel eval``: play the learned planner of a run, and write a video of it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from worldmodel import run_folder
from worldmodel.checks import ConfigError, require
from worldmodel.cli.arguments import RunFolder, Trust, parse
from worldmodel.cli.pixels import pairs_of, play_pixels, require_pixels
from worldmodel.cli.process_setup import one_thread
from worldmodel.cli.renderer import Renderer, environment_of
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import score, show_episode

if TYPE_CHECKING:  # these rooms import torch, and mistakes are answered without it
    import numpy as np
    from numpy.typing import NDArray

    from worldmodel.agent import Agent
    from worldmodel.envs import Environment
    from worldmodel.structs import Episode
    from worldmodel.video import Images

VIDEO_ENLARGED = 4
VIDEO_IMAGES_PER_S = 20


def command(typed: list[str]) -> int:
    """Play the learned planner of a run, without exploration noise.

    With --pixel and --to the episodes are not planned for the reward: they bring pixels of the
    first image to other pixels. For runs of a model that predicts images, as foresight does.

    Example:
        worldmodel eval runs/default-cartpole_swingup-0 --episodes 3 --video swingup.mp4
        worldmodel eval runs/foresight-planar-0 --pixel 12,20 --to 24,8
    """
    return parse("eval", command, _play_run, typed)


def _play_run(
    run: RunFolder,
    *,
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 10,
    seed: Annotated[int, tyro.conf.arg(metavar="S", help="episode i starts from seed S + i")] = 0,
    video: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="the first episode, as .mp4 or .gif")
    ] = None,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="nothing but one line of JSON on standard output")
    ] = False,
    baselines: Annotated[
        bool, tyro.conf.arg(help="also play random and zero actions, from the same starts")
    ] = False,
    pixel: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="ROW,COLUMN ...", help="plan to bring these pixels of the first image"
        ),
    ] = (),
    to: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="ROW,COLUMN ...", help="to these pixels, one for each --pixel"),
    ] = (),
    renderer: Annotated[
        Renderer | None,
        tyro.conf.arg(help="draw with this one, also where the run was trained with another"),
    ] = None,
    trust: Trust = False,
) -> int:
    require(episodes >= 1, f"episodes: expected 1 or more, got {episodes}")
    require(seed >= 0, f"seed: expected 0 or more, got {seed}")
    pixels, goals = pairs_of(pixel, to)
    run_folder.require_run(run)
    if video is not None:
        _require_video(video)

    import numpy as np  # slow to import, as the next, and mistakes are answered before

    from worldmodel.rollout import evaluate

    config = run_folder.read_run(run)
    agent = run_folder.load(run)
    if pixels:
        require_pixels(agent, pixels, goals)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        env = environment_of(run, config, renderer, trust=trust)
        print(_who_plays(agent), flush=True)
        try:
            distances: dict[str, Any] = {}
            with one_thread():
                if pixels:
                    seeds = range(seed, seed + episodes)
                    evaluated, distances = play_pixels(agent, env, seeds, pixels, goals)
                else:
                    evaluated = evaluate(agent, env, episodes, seed, show_episode)
            answer = {
                **distances,
                "mean": float(evaluated.returns.mean()),
                "std": float(evaluated.returns.std()),
                "returns": evaluated.returns.tolist(),
                "env_steps": evaluated.env_steps,
                "plan_ms_p50": float(np.percentile(evaluated.plan_milliseconds, 50)),
                "plan_ms_p99": float(np.percentile(evaluated.plan_milliseconds, 99)),
            }
            print(f"{score(evaluated.returns)} {_lengths(evaluated.episodes)}")
            print(f"a plan takes {answer['plan_ms_p50']:.1f} ms (p99 {answer['plan_ms_p99']:.1f})")
            if baselines:
                for name, returns in _play_baselines(env, evaluated.seeds).items():
                    print(f"{name}: {score(returns)}")
                    answer[f"{name}_mean"] = float(returns.mean())
        finally:
            env.close()
        if video is not None:
            _write_video(video, evaluated.videos[0])
            print(f"{video}: episode 0")
    if as_json:
        print(json.dumps(answer))
    return 0


def _who_plays(agent: Agent) -> str:
    """Which checkpoint plays, so that nobody takes older weights for the newest."""
    origin = agent.origin
    assert origin is not None, "run_folder.load names the origin"
    trained = "" if origin.env_steps is None else f", of {origin.env_steps:,} env steps"
    older = "" if origin.fallback is None else "; it is not the newest, which is broken"
    return f"checkpoint {origin.checkpoint}{trained}, plays{older}"


def _lengths(episodes: Sequence[Episode]) -> str:
    """How long the episodes were, so that nobody takes the number for that of the training."""
    steps = sorted({episode.total_env_steps for episode in episodes})
    if len(steps) == 1:
        return f"of {steps[0]:,} env steps{' each' if len(episodes) > 1 else ''}"
    return f"of {steps[0]:,} to {steps[-1]:,} env steps"


def _play_baselines(env: Environment, seeds: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Returns of uniform random actions, and of zero actions."""
    import numpy as np

    from worldmodel.rollout import play_constant, play_random

    zero = np.zeros_like(env.action_low)
    played = {
        "random": [play_random(env, seed).episode for seed in seeds],
        "zero": [play_constant(env, zero, seed).episode for seed in seeds],
    }
    return {
        name: np.array([episode.total_reward for episode in episodes])
        for name, episodes in played.items()
    }


def _write_video(path: Path, images: Images) -> None:
    from worldmodel.video import enlarge, write_video

    write_video(path, enlarge(images, VIDEO_ENLARGED), VIDEO_IMAGES_PER_S)


def _require_video(path: Path) -> None:
    """Raise if a video of this format cannot be written here, or not in this place."""
    require(
        path.suffix in (".mp4", ".gif"), f"video: expected a name like v.mp4 or v.gif, got {path}"
    )
    needed = "imageio" if path.suffix == ".gif" else "imageio_ffmpeg"
    if importlib.util.find_spec(needed) is None:
        raise ConfigError(f"video: {path.suffix} needs {needed}; type: pip install {needed}")
    require(not path.is_dir(), f"video: {path} is a folder")
    require_writable(path.parent, "video")
