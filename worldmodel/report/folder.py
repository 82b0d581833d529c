"""The folder of a report: a file appears in it only when it is complete."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.report.figures import darken
from worldmodel.report.page import Picture, Video
from worldmodel.report.palette import DARK, LIGHT, Palette
from worldmodel.report.strips import Images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES_PER_SECOND = 8  # slow enough to compare three pictures


class Folder:
    """Write a report's files; ``files`` are those written, ``notes`` say what could not be.

    Methods that write pictures and videos return them as parts of the page.
    """

    def __init__(self, path: Path, notes: Sequence[str] = ()) -> None:
        try:  # a robot needs no pictures and may not have it
            import imageio.v3
        except ImportError as error:
            raise ConfigError("visualize: it draws with imageio: pip install imageio") from error
        self.imageio = imageio.v3
        self.path = path
        self.files: list[Path] = []
        self.notes: list[str] = list(notes)
        try:  # fail now, and not after minutes of imagining
            files.try_writing(path)
        except OSError as error:
            raise ConfigError(f"out: cannot write {path}: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        self._keep(name, lambda new: new.write_bytes(content))

    def table(
        self, name: str, header: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """A CSV file; ``header``: lines that begin with #."""
        text = io.StringIO(header)
        text.seek(0, io.SEEK_END)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        self.write(name, text.getvalue().encode())

    def picture(self, name: str, draw: Callable[[Palette], Images]) -> Picture:
        """Draw a picture in light and in dark colours; the file holds the light one."""
        light, dark = (
            self.imageio.imwrite("<bytes>", draw(palette), extension=".png")
            for palette in (LIGHT, DARK)
        )
        self.write(name, light)
        return Picture(name, light, dark, name.removesuffix(".png").replace("_", " "))

    def video(self, name: str, frames: Sequence[Images]) -> Video:
        """Write an mp4, or a GIF where ffmpeg is missing."""
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            self.notes.append(
                f"{name}.gif is a GIF because ffmpeg is missing; for an mp4:"
                " pip install imageio-ffmpeg"
            )
            milliseconds = 1000 / FRAMES_PER_SECOND
            name = f"{name}.gif"
            self._keep(
                name,
                lambda new: self.imageio.imwrite(new, frames, duration=milliseconds, loop=0),
            )
        else:
            name = f"{name}.mp4"
            self._keep(
                name,
                lambda new: self.imageio.imwrite(
                    new,
                    frames,
                    plugin="FFMPEG",
                    fps=FRAMES_PER_SECOND,
                    macro_block_size=2,  # the sides of the frames are even
                    output_params=["-crf", "16"],  # keeps the edges of large pixels sharp
                ),
            )
        content = (self.path / name).read_bytes()
        poster = self.imageio.imwrite("<bytes>", frames[len(frames) // 2], extension=".png")
        alt = "truth, model and error of several episodes, side by side"
        return Video(name, content, poster, alt)

    def figure(
        self, name: str, plot: Callable[[], Figure], *, is_wide: bool = True
    ) -> list[Picture]:
        """Draw a chart in light and in dark colours; without matplotlib there is none."""
        try:
            drawn = plot()
        except ImportError:
            note = "no curves were drawn because matplotlib is missing: pip install matplotlib"
            self.notes.extend([] if note in self.notes else [note])
            return []
        light = _png(drawn)
        self.write(name, light)
        alt = name.removesuffix(".png").replace("_", " ")
        return [Picture(name, light, _png(darken(drawn)), alt, is_wide)]

    def _keep(self, name: str, write: Callable[[Path], object]) -> None:
        try:
            with files.replacing(self.path / name) as new:
                write(new)
        except OSError as error:
            raise ConfigError(f"out: cannot write {self.path / name}: {error.strerror}") from error
        self.files.append(self.path / name)


def _png(figure: Figure) -> bytes:
    """A PNG of 256 colours: enough for a chart, and a third of the bytes."""
    from PIL import Image  # it comes with imageio, which a robot may not have

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    whole = Image.open(drawn).convert("RGB")
    whole.quantize(256, dither=Image.Dither.NONE).save(small, "png")
    return small.getvalue()
