"""The demo: a small trained agent from the package plays, and a report is written about it.

``worldmodel demo`` shows it; ``python -m worldmodel.demo RUN`` replaces it by the agent of another
run. The JSON file next to the weights says which run they come from, its settings and its score.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from worldmodel import checkpoint, files, model_file
from worldmodel.analysis import read_source, recorded
from worldmodel.analysis.starts import HELDOUT, windows_of
from worldmodel.checks import ConfigError, read
from worldmodel.compare_settings import changes
from worldmodel.config import Config
from worldmodel.envs import Environment, make_env_of_file
from worldmodel.log import EVALUATIONS, METRICS, Journal, read_evaluations, read_metrics
from worldmodel.models import build
from worldmodel.presets import load_preset
from worldmodel.replay import write_episode
from worldmodel.rollout import evaluate
from worldmodel.structs import Episode, Spec
from worldmodel.video import best_format, enlarge, side_by_side, write_video

WEIGHTS = Path(__file__).parent / "pretrained" / "demo.safetensors"
MARK = "demo.json"  # marks the folder of a demo: a later demo may overwrite it
VIDEO_SIZE, VIDEO_PER_S = 4, 20  # enlargement; images a second

LOOK_AT = """\
  {video}: what the camera saw
  {page}: open it in a browser
    What it predicts             five images seen, then 45 imagined from the actions alone
    How far it can be trusted    the error by distance, and that of two guesses without a model
    What the planner compares    candidates of the planner as pictures, before and after the search
"""


@dataclass(frozen=True)
class Shown:
    """The scores and the files of one demo."""

    returns: NDArray[np.float64]
    stated: float  # the score of the run that the weights come from
    plan_ms: float  # median
    seconds: float
    video: Path
    page: Path
    notes: list[str]

    def __str__(self) -> str:
        mean = float(self.returns.mean())
        share = f", {mean / self.stated:.0%} of it" if self.stated > 0 else ""
        look = LOOK_AT.format(video=self.video, page=self.page)
        return (
            f"score {mean:.1f} over {len(self.returns)} episodes;"
            f" stated: {self.stated:.1f}{share}\n"
            f"a plan takes {self.plan_ms:.1f} ms, all of this took {self.seconds:.0f} s; look at:\n"
            f"{look}".rstrip()
        )


def require_free(out: Path) -> None:
    """Raise unless ``out`` is empty, absent or the folder of an earlier demo."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: {out} is a file; choose another --out")
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ConfigError(f"out: {out} holds something else than a demo; choose another --out")


def introduce(weights: Path = WEIGHTS) -> str:
    """Text about the agent that plays: its task, its training, the command to repeat it."""
    about = model_file.read_about(weights)
    trained, config = about["trained"], read(Config(), about["settings"])
    return (
        f"{config.task}, learned from images in {trained['env_steps']:,} simulator"
        f" steps, {trained['wall_clock_s'] / 60:.0f} minutes on {trained['machine']}\n"
        f"trained by: {command(config, trained['minutes'])}"
    )


def show(
    out: Path,
    episodes: int,
    seed: int = 0,
    watch: Callable[[int, Episode], None] | None = None,
    weights: Path = WEIGHTS,
    say: Callable[[str], None] = lambda text: None,
) -> Shown:
    """Play ``episodes``, write video and report to ``out``. Episode i has the seed ``seed`` + i.

    ``watch`` is called after each episode, ``say`` with a line at the beginning of each stage.
    """
    begun = time.perf_counter()
    require_free(out)
    packed = model_file.read(weights)
    agent, about = packed.agent, packed.about
    player, plans = recorded(agent)  # the report compares them, and need not plan again
    say("the simulator and its renderer start")
    env = _environment(packed.config, about)
    try:
        files.try_writing(out)  # fail now, and not after minutes of playing
        files.write(out / MARK, weights.with_suffix(".json").read_bytes())
        say(f"playing {episodes} episode{'' if episodes == 1 else 's'}; every action is planned")
        played = evaluate(player, env, episodes, seed, watch)
    finally:
        env.close()
    from worldmodel.report import visualize_run  # loads plotting

    video = out / f"demo{best_format()}"
    say(f"writing {video.name}")
    images = side_by_side(played.videos)
    write_video(video, enlarge(images, VIDEO_SIZE), VIDEO_PER_S)
    _keep(out, played.episodes, played.returns, played.seeds, about)
    say("measuring the model, and drawing the report:")
    summary = visualize_run(
        agent,
        out,
        out / "report",
        config=packed.config,
        made=plans.of(played.episodes),
        say=lambda name: say(f"  drawn: {name}"),
    )
    # a run evaluates more episodes by a setting, and a demo by an option
    notes = [note.replace("loop.evaluate_episodes", "--episodes") for note in summary.notes]
    return Shown(
        played.returns,
        stated=float(about["trained"]["score"]),
        plan_ms=float(np.median(played.plan_milliseconds)),
        seconds=time.perf_counter() - begun,
        video=video,
        page=out / "report" / "report.html",
        notes=notes,
    )


def pack(run: Path, weights: Path = WEIGHTS) -> None:
    """Write the agent of a finished run to ``weights``, for the demo to show, and its starts."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"run: {run} holds no config.yaml, so it is not a run")
    about = yaml.safe_load((run / "config.yaml").read_text())
    config = read(Config(), about["settings"])
    model = build(config.model, Spec.described(about))
    learned = checkpoint.load_group(run / "checkpoints", "averaged")
    scores, metrics = read_evaluations(run / EVALUATIONS), read_metrics(run / METRICS)
    if learned is None or not scores or not metrics:
        raise ConfigError(f"run: {run} has no checkpoint or no evaluation yet; train it to its end")
    model.load_state_dict(learned)
    last = scores[-1]
    model_file.write(
        weights,
        model,
        config,
        {
            "trained": {
                "minutes": round(metrics[-1]["wall_clock_s"] / 60),
                "env_steps": last.env_steps,
                "wall_clock_s": last.wall_clock_s,
                "score": float(np.mean(last.returns)),
                "returns": last.returns,
                "seeds": last.seeds,
                "machine": f"{about['machine']}, {platform.system()}",
            },
            "environment": about["environment"],
            "versions": about["versions"],
        },
    )
    pack_starts(run, weights.parent)


def pack_starts(run: Path, folder: Path) -> None:
    """Write the windows at which a dream of the packed agent begins, each as an episode."""
    episodes = list(read_source(run).heldout.values())
    (folder / HELDOUT).mkdir(exist_ok=True)
    for old in (folder / HELDOUT).glob("*.npz"):
        old.unlink()
    places, rows = windows_of(episodes)
    for number, (place, begin) in enumerate(places):
        window = episodes[place].cut(begin, rows)
        write_episode(folder / HELDOUT / f"{number:06d}.npz", window)


def command(config: Config, minutes: int) -> str:
    """The command that trains with ``config`` again: the default preset and every difference."""
    base = dataclasses.replace(load_preset("default"), task=config.task, seed=config.seed)
    words = ["worldmodel", "train", config.task, "--seed", str(config.seed)]
    words += ["--minutes", str(minutes)]
    for path, _, value in changes(base, config):
        words += [f"--{path}", str(value)]
    return " ".join(words)


def _environment(config: Config, about: Mapping[str, Any]) -> Environment:
    """The task with the agent's own renderer: another renderer draws other images."""
    renderer = about["environment"].get("renderer", config.env.renderer)
    return make_env_of_file(
        config.task, dataclasses.replace(config.env, renderer=renderer), config.seed
    )


def _keep(
    out: Path,
    episodes: Sequence[Episode],
    returns: NDArray[np.float64],
    seeds: Sequence[int],
    about: Mapping[str, Any],
) -> None:
    """Write the episodes as a run writes its last evaluation, because the report reads them."""
    for name in (EVALUATIONS, "heldout/*.npz"):
        for old in out.glob(name):
            old.unlink()
    trained = about["trained"]
    journal = Journal(out)
    journal.evaluation(trained["env_steps"], trained["wall_clock_s"], returns.tolist(), seeds)
    (out / "heldout").mkdir(exist_ok=True)
    for number, episode in enumerate(episodes):
        write_episode(out / "heldout" / f"{number:06d}.npz", episode)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m worldmodel.demo", description="Make a run's agent the one of the demo."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="its folder, trained to its end")
    try:
        pack(parser.parse_args().run)
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    _main()
