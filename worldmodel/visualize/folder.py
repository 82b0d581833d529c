"""A folder of pictures, a video and numbers that show what an agent's model knows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldmodel.agent import Agent
from worldmodel.config import ConfigError
from worldmodel.log import EVALUATIONS, METRICS, read_evaluations, read_metrics
from worldmodel.replay import BrokenEpisodeError, read_episode
from worldmodel.structs import Episode
from worldmodel.visualize.errors import (
    HorizonErrors,
    RewardFit,
    fit_reward,
    long_enough,
    mean_of,
    measure,
    psnr,
)
from worldmodel.visualize.figures import plot_curves, plot_errors, plot_reward
from worldmodel.visualize.predictions import (
    AHEAD,
    CONTEXT,
    check_fit,
    cut,
    decode,
    newest,
    observe,
    predict,
)
from worldmodel.visualize.strips import (
    EPISODES_SHOWN,
    STRIP_MOMENTS,
    Images,
    draw_open_loop,
    draw_reconstructions,
    draw_video,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLD_AHEAD = 10  # the distance of the one line
FRAMES_PER_SECOND = 8  # slow enough to compare three pictures
TRAINING_EPISODES = 20  # read for the mean image, evenly over the run

ERRORS_HEADER = """\
# mean squared errors of predictions without images, by rows ahead of the last image seen
# model, hold_last, mean_image: of images, pixels in [0, 1]; psnr in decibels; reward_*: of rewards
# windows: how many each number is a mean over, the same ones for every column
"""


@dataclass(frozen=True)
class Summary:
    """What was found and what was written; as text, the one line that matters most."""

    errors: HorizonErrors
    reward: RewardFit
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is missing, and how to have it

    def __str__(self) -> str:
        errors = self.errors.at(TOLD_AHEAD)
        return (
            f"open-loop at {errors.ahead[0]} steps: model {errors.model[0]:.4g},"
            f" hold-last {errors.hold_last[0]:.4g}, mean image {errors.mean_image[0]:.4g}"
            " (mean squared error; lower is better)"
        )


def visualize_run(agent: Agent, run: Path, out: Path | None = None) -> Summary:
    """The run's held-out episodes, seen by its agent; to ``RUN/report`` unless told otherwise."""
    episodes, broken = _read_episodes(sorted((run / "heldout").glob("*.npz")))
    if not episodes:
        raise ConfigError(
            f"run: {run / 'heldout'} holds no episode yet; the first evaluation brings some, so"
            " train a little longer"
        )
    summary = visualize(agent, episodes, run / "report" if out is None else out, run)
    summary.notes.extend(broken)
    return summary


def visualize(
    agent: Agent, episodes: Sequence[Episode], out: Path, run: Path | None = None
) -> Summary:
    """Write everything that can be seen of the model on episodes it was never trained on.

    ``run``: where its learning curves and its training images are found.
    """
    check_fit(agent, episodes)
    long = long_enough(episodes, CONTEXT)
    folder = _Folder(out)

    errors = measure(agent, long, mean_image(agent, long, run))
    folder.write("errors.csv", _errors_csv(errors).encode())
    whole = cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))
    beliefs = observe(agent, whole, whole.reward.shape[1])
    reward = fit_reward(agent, whole, beliefs)

    moments = np.linspace(0, len(episodes[0]) - 1, STRIP_MOMENTS).round().astype(int).tolist()
    moments = sorted(set(moments))
    frames = agent.config.env.frames
    truth = newest(episodes[0].image[moments], frames)
    model = newest(decode(agent, beliefs.features[0, moments]), frames)
    folder.picture("reconstruction.png", draw_reconstructions(truth, model, moments))

    begins = [(number, 0) for number in range(min(EPISODES_SHOWN, len(long)))]
    rows = min(CONTEXT + AHEAD, max(len(long[number]) for number, _ in begins))
    prediction = predict(agent, cut(long, begins, rows))
    folder.picture("open_loop.png", draw_open_loop(prediction))
    folder.video("open_loop", draw_video(prediction))

    folder.figure("errors.png", lambda: plot_errors(errors))
    folder.figure("reward.png", lambda: plot_reward(reward))
    if run is not None and (run / EVALUATIONS).exists() and (run / METRICS).exists():
        evaluations, metrics = read_evaluations(run / EVALUATIONS), read_metrics(run / METRICS)
        folder.figure("curves.png", lambda: plot_curves(evaluations, metrics))
    return Summary(errors, reward, folder.files, folder.notes)


def mean_image(agent: Agent, episodes: Sequence[Episode], run: Path | None) -> NDArray[np.floating]:
    """[H, W, 3] in [0, 1]: of the run's training images, or the closest thing to it that is here.

    That is the mean the model was fitted with, or, where there is none, that of ``episodes``.
    """
    frames = agent.config.env.frames
    if run is not None:
        paths = sorted((run / "replay").glob("*.npz"))
        picks = np.linspace(0, len(paths) - 1, min(TRAINING_EPISODES, len(paths))).round()
        trained, _ = _read_episodes([paths[int(pick)] for pick in picks])
        if trained:
            return mean_of(trained, frames)
    fitted = agent.model.pixels.mean.cpu().numpy()  # [H, W, C]
    is_fitted = bool((fitted != 0.5).any())  # it starts as one half everywhere
    return newest(fitted, frames) if is_fitted else mean_of(episodes, frames)


class _Folder:
    """Where files go, each written beside its place and renamed; remembers what it could not."""

    def __init__(self, path: Path) -> None:
        try:  # pictures are no part of an import
            import imageio.v3
        except ImportError as error:
            raise ConfigError("visualize: it draws with imageio: pip install imageio") from error
        self.imageio = imageio.v3
        self.path = path
        self.files: list[Path] = []
        self.notes: list[str] = []
        try:  # before the minutes of imagining, not after
            path.mkdir(parents=True, exist_ok=True)
            (path / ".writing").write_bytes(b"")
            (path / ".writing").unlink()
        except OSError as error:
            raise ConfigError(f"out: cannot write {path}: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        self._keep(name, lambda beside: beside.write_bytes(content))

    def picture(self, name: str, image: Images) -> None:
        self.write(name, self.imageio.imwrite("<bytes>", image, extension=".png"))

    def video(self, name: str, frames: Sequence[Images]) -> None:
        """An mp4, or a GIF where ffmpeg is missing."""
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            self.notes.append(
                f"{name}.gif is a GIF because ffmpeg is missing; for an mp4:"
                " pip install imageio-ffmpeg"
            )
            milliseconds = 1000 / FRAMES_PER_SECOND
            self._keep(
                f"{name}.gif",
                lambda beside: self.imageio.imwrite(beside, frames, duration=milliseconds, loop=0),
            )
            return
        self._keep(
            f"{name}.mp4",
            lambda beside: self.imageio.imwrite(
                beside,
                frames,
                plugin="FFMPEG",
                fps=FRAMES_PER_SECOND,
                macro_block_size=2,  # the frames' sides are even already
                output_params=["-crf", "16"],  # hard edges of large pixels
            ),
        )

    def figure(self, name: str, plot: Callable[[], Figure]) -> None:
        try:
            drawn = plot()
        except ImportError:
            note = "no curves were drawn because matplotlib is missing: pip install matplotlib"
            self.notes.extend([] if note in self.notes else [note])
            return
        content = io.BytesIO()
        drawn.savefig(content, format="png", dpi=110)
        self.write(name, content.getvalue())

    def _keep(self, name: str, write: Callable[[Path], object]) -> None:
        beside = self.path / f".writing.{name}"  # the ending tells the format
        try:
            write(beside)
            os.replace(beside, self.path / name)
        except OSError as error:
            raise ConfigError(f"out: cannot write {self.path / name}: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)
        self.files.append(self.path / name)


def _errors_csv(errors: HorizonErrors) -> str:
    columns: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        f.name: getattr(errors, f.name) for f in fields(errors)
    }
    for name in ("model", "hold_last", "mean_image"):
        columns[f"psnr_{name}"] = psnr(getattr(errors, name))
    text = io.StringIO(ERRORS_HEADER)
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([value.item() for value in row])
    return text.getvalue()


def _read_episodes(paths: Sequence[Path]) -> tuple[list[Episode], list[str]]:
    """The whole ones, and a note for each of the others."""
    episodes, notes = [], []
    for path in paths:
        try:
            episodes.append(read_episode(path))
        except BrokenEpisodeError as error:
            notes.append(f"{error}; it is skipped")
    return episodes, notes
