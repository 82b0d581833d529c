"""Images of cameras: read, fitted to the square that networks take, and joined.

This file needs numpy only, so training, controllers and exported agents fit an image alike, bit for
bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Shape = tuple[int, int, int]
"""Height, width and channels."""
Fit = Literal["stretch", "crop", "pad"]
Number = TypeVar("Number", bound=np.generic)

USUAL_SIDE = 64
ALONE = "image"  # the name of a camera that is the only one
# of a ratio of two sides: 1366x768 and 1280x720 show the same picture
ASPECT_TOLERANCE = 0.01
WORDS: Mapping[Fit | None, str] = {
    None: "all of it",
    "stretch": "all of it, with another ratio of its sides (env.fit stretch)",
    "crop": "the square in its middle (env.fit crop)",
    "pad": "all of it, between black bars (env.fit pad)",
}
# the function's name in a line to type: an exported agent carries a copy of this file
CALL = f"{'worldmodel' if __name__ == 'worldmodel.images' else __name__}.fit_image"


def fit_image(
    image: Any,
    size: int = USUAL_SIDE,
    fit: Fit = "stretch",
    *,
    order: Literal["RGB", "BGR"] = "RGB",
    channels: int | None = None,
) -> Image:
    """Make a camera's image square, as training does: uint8 [H, W, C] -> uint8 [size, size, C].

    Each new pixel is the mean of the area that it covers, rounded, a half upwards. The means are
    exact: they are computed in whole numbers. An image that is too small is enlarged in the same
    way, so its pixels become blocks, and a new pixel across a border is a mixture.

    ``fit``: ``stretch`` shows the whole image in another aspect; ``crop`` takes the square in its
    middle; ``pad`` adds black bars. ``order``: ``BGR`` for images of OpenCV, whose channels are
    then reversed. ``channels=3``: a grey image [H, W] or [H, W, 1] gets three equal channels.
    An image of Pillow or torch is taken too. The result is always a copy, because a camera may
    write into its own array again.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit: expected one of {', '.join(get_args(Fit))}; got {fit!r}")
    if not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size: expected a whole number from 1 on, got {size!r}")
    if order not in ("RGB", "BGR"):
        raise ValueError(f"order: expected RGB or BGR, got {order!r}")
    array = _array(image)
    if channels == 3 and isinstance(array, np.ndarray) and array.ndim == 2:
        array = array[..., None]
    array = read_image(array)
    if channels == 3 and array.shape[-1] == 1:
        array = np.repeat(array, 3, -1)
    if channels not in (None, array.shape[-1]):
        raise ValueError(_wrong_channels(ALONE, f"[H, W, {channels}]", array.shape, channels or 0))
    if order == "BGR":
        if array.shape[-1] != 3:
            raise ValueError(f"order: BGR has three channels, got {list(array.shape)}")
        array = array[..., ::-1]
    return fitted(array, int(size), fit)


def read_image(given: Any, name: str = ALONE, expected: str = "[H, W, C]") -> Image:
    """The image as an array [H, W, C]; raise with the line to type if it is none.

    ``expected``: the shape, for the message.
    """
    image = _array(given)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name}: expected a numpy array, got {_said(given)}")
    got = f"{name}: expected uint8 {expected}, got {image.dtype} {list(image.shape)}"
    if image.dtype != np.uint8:
        raise ValueError(f"{got}{_as_bytes(image)}")
    if image.ndim == 2:
        raise ValueError(
            f"{got}; type: image = image[..., None] for one grey channel, or {CALL}(image,"
            " channels=3) for three"
        )
    if image.ndim != 3:
        raise ValueError(got)
    if image.shape[0] in (1, 3, 4) and image.shape[2] > 4:
        raise ValueError(f"{got}: channels come first; type: image = image.transpose(1, 2, 0)")
    if 0 in image.shape:
        raise ValueError(f"{got}: it has no pixels")
    return image


def fitted(image: Image, size: int, fit: Fit) -> Image:
    """[H, W, C] -> [size, size, C], always a copy; ``fit_image`` says how."""
    height, width, channels = image.shape
    if height != width and fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    elif height != width and fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = np.zeros((side, side, channels), np.uint8)
        square[top : top + height, left : left + width] = image
        image = square
    return _resized(image, size)


def _resized(image: Image, size: int) -> Image:
    """[H, W, C] -> [size, size, C]

    Rows are summed first, then columns, with whole numbers as weights. Every product and sum is a
    whole number that its floating-point type holds exactly, so the result depends neither on the
    order of the sums nor on the machine.
    """
    height, width, channels = image.shape
    if height == width == size:
        return image.copy()
    rows = _sums(image.reshape(height, -1).astype(np.float32), size)  # [size, W * C]
    columns = rows.T.reshape(width, -1).astype(np.float64)  # [W, C * size]
    total = _sums(columns, size).reshape(size, channels, size)
    area = (height // math.gcd(height, size)) * (width // math.gcd(width, size))
    mean = (total / area + 0.5).astype(np.uint8)
    return np.ascontiguousarray(mean.transpose(2, 0, 1))


def _sums(values: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """[P, M] -> [size, M]: sums of neighbours, weighted by their share in each new pixel.

    The weights repeat after P / gcd(P, size) old pixels, so each repetition is a small product.
    """
    pixels, columns = values.shape
    repetitions = math.gcd(pixels, size)
    weights = _weights(pixels // repetitions, size // repetitions).astype(values.dtype)
    sums: NDArray[np.floating] = weights @ values.reshape(repetitions, -1, columns)
    return sums.reshape(size, columns)


@functools.cache
def _weights(pixels: int, size: int) -> NDArray[np.int64]:
    """[size, pixels] how much of each old pixel each new one covers, in parts of 1 / size."""
    begin = np.arange(size)[:, None] * pixels
    old = np.arange(pixels) * size
    return (np.minimum(begin + pixels, old + size) - np.maximum(begin, old)).clip(0)


@dataclass(frozen=True)
class ImageFit:
    """How the images of one moment become the image [H, W, C] that a model takes.

    The images of several cameras are fitted one by one, and joined along the channel axis in the
    order of their names. ``cameras`` holds the shapes that training saw: an image of the same
    aspect is fitted, and one of another aspect is refused, because it would show another picture.
    An image that has the model's shape already is taken as it is.
    """

    image: Shape
    fit: Fit = "stretch"
    cameras: Mapping[str, Shape] = field(default_factory=dict)  # by name, as the cameras give them
    frames: int = 1  # images of each camera that are stacked in the channels, the newest last

    @classmethod
    def described(cls, spec: Mapping[str, Any]) -> ImageFit:
        """Read from the ``spec`` of a run, a model file or an export; older ones have no cameras:
        their images are square, and come with the model's shape.
        """
        height, width, channels = (int(side) for side in spec["image"])
        frames = int(spec.get("frames") or 1)
        cameras = {
            str(name): (int(shape[0]), int(shape[1]), int(shape[2]))
            for name, shape in (spec.get("cameras") or {}).items()
        }
        return cls((height, width, channels), spec.get("fit") or "stretch", cameras, frames)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each camera's image, in the order of the channels."""
        height, width, channels = self.image
        alone = {ALONE: (height, width, channels // self.frames)}
        return {name: self.cameras[name] for name in sorted(self.cameras)} or alone

    def in_words(self) -> list[str]:
        """A line for each camera whose images are fitted: from which shape to which, and how."""
        side = self.image[0]
        return [
            f"{name}: {list(shape)} is fitted to {[side, side, shape[-1]]}:"
            f" {WORDS[self.fit] if shape[0] != shape[1] else WORDS[None]}"
            for name, shape in self.shapes.items()
            if shape[:2] != self.image[:2]
        ]

    def split(self, given: Any, vectors: Collection[str]) -> tuple[Any, dict[str, Any]]:
        """What an agent is given, as its image or images by camera, and its vectors by name.

        ``vectors``: the names that a dict must have besides those of the cameras, or besides
        ``image`` for an image that is joined already.
        """
        expected = ", ".join([*self.shapes, *vectors])
        if not isinstance(given, Mapping):
            if vectors:
                raise ValueError(
                    f"image: this agent also takes the vectors {', '.join(vectors)}; give a dict of"
                    f" {expected}"
                )
            return given, {}
        images = {name: part for name, part in given.items() if name not in vectors}
        is_whole = images.keys() in (self.shapes.keys(), {ALONE})
        if not is_whole or len(given) != len(images) + len(vectors):
            raise ValueError(f"image: expected {expected}; got {', '.join(map(str, given))}")
        return images if len(images) > 1 else images.popitem()[1], {n: given[n] for n in vectors}

    def __call__(self, given: Any) -> Image:
        """An image, or images by the cameras' names -> [H, W, C]"""
        shapes = self.shapes
        given, _ = self.split(given, ())
        if isinstance(given, Mapping):
            return join([self._one(name, given[name]) for name in shapes], self.frames)
        if len(shapes) == 1:
            return self._one(next(iter(shapes)), given)
        image = read_image(given, expected=str(list(self.image)))
        if image.shape == self.image:
            return image
        raise ValueError(
            f"image: expected a dict of {', '.join(shapes)}, or uint8 {list(self.image)}; got"
            f" uint8 {list(image.shape)}"
        )

    def _one(self, name: str, given: Any) -> Image:
        """The fitted image of one camera."""
        height, width, channels = self.shapes[name]
        channels *= self.frames
        expected = str([height, width, channels])
        image = read_image(given, name, expected)
        if image.shape == (*self.image[:2], channels):
            return image
        if image.shape[-1] != channels:
            raise ValueError(_wrong_channels(name, expected, image.shape, channels))
        if self.image[0] != self.image[1] or not has_aspect(image.shape, (height, width)):
            raise ValueError(
                f"{name}: expected uint8 {expected}, got uint8 {list(image.shape)}; its sides have"
                " another ratio than those of the images that the agent learned from, so it would"
                " show another picture; if you want that, type: image ="
                f' {CALL}(image, {self.image[0]}, "{self.fit}")'
            )
        return fitted(image, self.image[0], self.fit)


def has_aspect(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two images [H, W, ...] have the same ratio of height to width, within 1 %."""
    one, two = shape[0] * other[1], shape[1] * other[0]
    return abs(one - two) <= ASPECT_TOLERANCE * max(one, two)


def by_camera(given: Any) -> dict[str, Image]:
    """Read an image, or images by the names of their cameras: in the order of the names."""
    if not isinstance(given, Mapping):
        return {ALONE: read_image(given)}
    if not given:
        raise ValueError("image: expected images by the names of their cameras, got none")
    return {str(name): read_image(given[name], str(name)) for name in sorted(given, key=str)}


def join(images: Sequence[NDArray[Number]], frames: int = 1) -> NDArray[Number]:
    """Images of several cameras [..., frames * c] -> [..., C]: of each moment all cameras."""
    if len(images) == 1:
        return images[0]
    moments = [image.reshape(*image.shape[:-1], frames, -1) for image in images]
    return np.concatenate(moments, -1).reshape(*images[0].shape[:-1], -1)


def shown(
    images: NDArray[Number], frames: int, cameras: Mapping[str, Shape] | None = None
) -> NDArray[Number]:
    """[..., H, W, C] -> [..., H, W', 3]: the newest of stacked images, the cameras side by side.

    Grey becomes three equal channels; of more than three channels the first three are shown.
    """
    newest = images[..., -(images.shape[-1] // frames) :]
    channels = [cameras[name][-1] for name in sorted(cameras)] if cameras else []
    parts = np.split(newest, np.cumsum(channels)[:-1], -1) if channels else [newest]
    colours = [
        part[..., :3] if part.shape[-1] >= 3 else np.repeat(part[..., :1], 3, -1) for part in parts
    ]
    return colours[0] if len(colours) == 1 else np.concatenate(colours, -2)


def _array(given: Any) -> Any:
    """Tensors of torch and images of Pillow whose channels are certain, as arrays."""
    if hasattr(given, "detach"):  # torch, which this file must not import
        return given.detach().cpu().numpy()
    if getattr(given, "mode", None) == "RGB" and hasattr(given, "getbands"):  # Pillow
        return np.asarray(given)
    if getattr(given, "mode", None) == "L" and hasattr(given, "getbands"):
        return np.asarray(given)[..., None]
    return given


def _said(given: Any) -> str:
    """What came, and what to type instead."""
    kind = type(given).__name__
    if given is None:
        return f"{kind}: the camera gave no image"
    if isinstance(given, str | bytes):
        return f"{kind}; read the file first: image = np.asarray(PIL.Image.open(path))"
    if hasattr(given, "getbands"):
        return f'a Pillow image of mode {given.mode}; type: image = image.convert("RGB")'
    return f"{kind}; type: image = np.asarray(image, np.uint8)"


def _as_bytes(image: NDArray[Any]) -> str:
    """The line that makes bytes of an array, where its numbers show what they mean."""
    line = ""
    if image.dtype == np.bool_:
        line = "255 * image.astype(np.uint8)"
    elif image.dtype == np.uint16:
        line = "(image // 256).astype(np.uint8)"
    elif np.issubdtype(image.dtype, np.number) and image.size and np.isrealobj(image):
        low, high = float(image.min()), float(image.max())
        if np.issubdtype(image.dtype, np.floating) and low >= 0 and high <= 1:
            line = "(image * 255).astype(np.uint8)"
        elif low >= 0 and high <= 255:
            line = "image.astype(np.uint8)"
        else:
            return f", with numbers from {low:g} to {high:g}: bytes go from 0 to 255"
    return f"; type: image = {line}" if line else ""


def _wrong_channels(name: str, expected: str, shape: Sequence[int], channels: int) -> str:
    """A complaint about the number of channels, with the line to type where there is one."""
    line = ""
    if channels == 3 and shape[-1] == 4:
        line = ": a fourth channel; to leave it out, type: image = image[..., :3]"
    elif channels == 3 and shape[-1] == 1:
        line = f": grey; for three equal channels, type: image = {CALL}(image, channels=3)"
    return f"{name}: expected uint8 {expected}, got uint8 {list(shape)}{line}"
