"""The folder of a report: a file appears in it only when it is complete."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.report.figures import darken, panel_boxes
from worldmodel.report.page import Chart, Picture, Tiles, Video
from worldmodel.report.strips import Images, Strip, draw_strip

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

DOTS_PER_INCH = 110  # of charts
FRAMES_PER_SECOND = 8  # slow enough to compare three pictures


class Folder:
    """Write a report's files; ``files`` are those written, ``notes`` say what could not be.

    ``say`` is called with the name of each file when it is written.

    Methods that write pictures and videos return them as parts of the page.
    """

    def __init__(
        self,
        path: Path,
        notes: Sequence[str] = (),
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        try:  # a robot needs no pictures and may not have it
            import imageio.v3
        except ImportError as error:
            raise ConfigError("visualize: it draws with imageio: pip install imageio") from error
        self.imageio = imageio.v3
        self.path = path
        self.say = say
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

    def strip(self, name: str, strip: Strip) -> Tiles:
        """The file holds the strip as one picture, the page its images one by one."""
        self.write(name, self.imageio.imwrite("<bytes>", draw_strip(strip), extension=".png"))
        return Tiles(strip, [[_small(image) for image in row.images] for row in strip.rows])

    def video(self, name: str, frames: Sequence[Images], alt: str) -> Video:
        """Write an mp4, or a GIF where ffmpeg is missing."""
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            note = "films are GIFs because ffmpeg is missing; for mp4: pip install imageio-ffmpeg"
            self.notes.extend([] if note in self.notes else [note])
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
        poster = self.imageio.imwrite("<bytes>", frames[len(frames) // 4], extension=".png")
        return Video(name, content, poster, alt)

    def figure(self, name: str, plot: Callable[[], Figure]) -> list[Chart]:
        """Draw a chart in light and in dark colours; without matplotlib there is none."""
        try:
            drawn = plot()
        except ImportError:
            note = "no curves were drawn because matplotlib is missing: pip install matplotlib"
            self.notes.extend([] if note in self.notes else [note])
            return []
        light = _painted(drawn)
        drawn.set_layout_engine("none")  # other colours leave everything in its place
        self.write(name, _png(light))
        alt = name.removesuffix(".png").replace("_", " ")
        pairs = zip(_panels(light, drawn), _panels(_painted(darken(drawn)), drawn), strict=True)
        return [Chart([Picture(_png(one), _png(other), alt) for one, other in pairs])]

    def _keep(self, name: str, write: Callable[[Path], object]) -> None:
        try:
            with files.replacing(self.path / name) as new:
                write(new)
        except OSError as error:
            raise ConfigError(f"out: cannot write {self.path / name}: {error.strerror}") from error
        self.files.append(self.path / name)
        self.say(name)


def _painted(figure: Figure) -> Image.Image:
    """256 colours are enough for a chart, and take a third of the bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # it comes with imageio, which a robot may not have

    # not savefig: it draws twice, the first time only for the layout
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return drawn.quantize(256, dither=Image.Dither.NONE)


def _panels(whole: Image.Image, figure: Figure) -> list[Image.Image]:
    """The panels of a figure that was just painted."""
    width, height = whole.size
    return [
        whole.crop((round(a * width), round(b * height), round(c * width), round(d * height)))
        for a, b, c, d in panel_boxes(figure)
    ]


def _png(image: Image.Image) -> bytes:
    small = io.BytesIO()
    image.save(small, "png")
    return small.getvalue()


def _small(image: Images) -> bytes:
    """A PNG of at most 256 colours: an image of 64x64 pixels has only 4096 of them."""
    from PIL import Image  # it comes with imageio, which a robot may not have

    return _png(Image.fromarray(image).quantize(256, dither=Image.Dither.NONE))
