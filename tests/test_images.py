"""Images of cameras: exact means, three ways to make a square, and sentences for what is none."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldmodel
from worldmodel import images
from worldmodel.images import ImageFit, fit_image, shown

FITS = ("stretch", "crop", "pad")


def noise(*shape: int) -> images.Image:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def mean_of_areas(image: images.Image, size: int) -> images.Image:
    """The slow definition, in fractions: the mean over the area, a half rounded upwards."""
    height, width, channels = image.shape

    def covered(new: int, old: int, sides: int) -> Fraction:
        begin, end = Fraction(sides * new, size), Fraction(sides * (new + 1), size)
        return max(Fraction(0), min(end, Fraction(old + 1)) - max(begin, Fraction(old)))

    means = np.zeros((size, size, channels), np.uint8)
    for row, column, channel in np.ndindex(means.shape):
        total = sum(
            covered(row, y, height) * covered(column, x, width) * int(image[y, x, channel])
            for y in range(height)
            for x in range(width)
        )
        means[row, column, channel] = total * size * size / (height * width) + Fraction(1, 2)
    return means


@pytest.mark.parametrize(
    ("shape", "size"), [((7, 5, 2), 3), ((3, 4, 1), 5), ((6, 9, 3), 4), ((2, 3, 1), 7)], ids=str
)
def test_each_new_pixel_is_the_rounded_mean_of_its_area(shape: tuple[int, ...], size: int) -> None:
    image = noise(*shape)
    assert np.array_equal(fit_image(image, size), mean_of_areas(image, size))


def test_a_whole_factor_is_the_mean_of_a_block() -> None:
    image = noise(480, 640, 3)
    middle = image[:, 80:560].reshape(48, 10, 48, 10, 3).astype(np.int64)
    assert np.array_equal(fit_image(image, 48, "crop"), (2 * middle.sum((1, 3)) + 100) // 200)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(480, 640, 3), (60, 80, 1), (33, 17, 2), (64, 64, 3)], ids=str)
def test_a_constant_image_stays_constant(shape: tuple[int, ...], fit: images.Fit) -> None:
    image = np.full(shape, 201, np.uint8)
    small = fit_image(image, 64, fit)
    assert small.shape == (64, 64, shape[-1])
    assert small.dtype == np.uint8
    bars = 0 if fit != "pad" else (64 - 64 * min(shape[:2]) // max(shape[:2])) // 2 + 1
    upright = small if shape[0] > shape[1] else small.swapaxes(0, 1)
    assert (upright[:, bars : 64 - bars] == 201).all()


@pytest.mark.parametrize("shape", [(480, 640, 3), (61, 83, 3), (5, 9, 1)], ids=str)
def test_the_brightness_of_the_picture_stays(shape: tuple[int, ...]) -> None:
    image = noise(*shape)
    for fit, share in (("stretch", 1.0), ("pad", min(shape[:2]) / max(shape[:2]))):
        small = fit_image(image, 64, fit)  # type: ignore[arg-type]
        assert float(small.mean()) == pytest.approx(share * float(image.mean()), abs=0.1)


def test_crop_takes_the_middle_and_pad_adds_equal_bars() -> None:
    wide = np.zeros((4, 8, 1), np.uint8)
    wide[:, 2:6] = 200
    assert (fit_image(wide, 4, "crop") == 200).all()
    assert np.array_equal(fit_image(wide, 4)[0, :, 0], [0, 200, 200, 0])
    padded = fit_image(np.full((4, 8, 1), 200, np.uint8), 8, "pad")[..., 0]
    assert padded[:, 0].tolist() == [0, 0, 200, 200, 200, 200, 0, 0]
    assert np.array_equal(fit_image(wide.swapaxes(0, 1), 4, "crop"), np.full((4, 4, 1), 200))


def test_a_small_image_is_enlarged_in_blocks() -> None:
    image = noise(32, 32, 3)
    assert np.array_equal(fit_image(image, 64), image.repeat(2, 0).repeat(2, 1))


def test_neither_flips_nor_other_channels_change_a_pixel() -> None:
    image = noise(48, 80, 3)
    whole = fit_image(image, 32)
    assert np.array_equal(fit_image(image[:, ::-1], 32), whole[:, ::-1])
    assert np.array_equal(fit_image(image[..., 1:2], 32), whole[..., 1:2])
    assert np.array_equal(fit_image(image.swapaxes(0, 1), 32), whole.swapaxes(0, 1))


def test_the_result_is_a_copy() -> None:
    image = noise(16, 16, 3)
    kept = fit_image(image, 16)
    image[:] = 9
    assert kept.std() > 0


def test_what_is_certain_is_fitted() -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = noise(48, 80, 3)
    whole = fit_image(image, 32)
    assert np.array_equal(fit_image(pillow.fromarray(image), 32), whole)
    assert np.array_equal(fit_image(torch.from_numpy(image), 32), whole)
    assert np.array_equal(fit_image(image[..., ::-1], 32, order="BGR"), whole)
    grey = image[..., 0]
    three = fit_image(grey, 32, channels=3)
    assert np.array_equal(three, whole[..., :1].repeat(3, -1))
    assert np.array_equal(fit_image(grey[..., None], 32, channels=3), three)
    assert np.array_equal(fit_image(pillow.fromarray(grey), 32), three[..., :1])


FULL = np.ones((4, 6, 3))
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "expected a numpy array, got NoneType: the camera gave no image"),
    "text": ("x.png", "got str; read the file first: image = np.asarray(PIL.Image.open(path))"),
    "a list": ([[1]], "got list; type: image = np.asarray(image, np.uint8)"),
    "objects": (np.array([None, 1]), "expected uint8 [H, W, C], got object [2]"),
    "0 to 1": (0.5 * FULL, "got float64 [4, 6, 3]; type: image = (image * 255).astype(np.uint8)"),
    "0 to 255": (9 * FULL, "got float64 [4, 6, 3]; type: image = image.astype(np.uint8)"),
    "below 0": (-FULL, "with numbers from -1 to -1: bytes go from 0 to 255"),
    "NaN": (np.nan * FULL, "with numbers from nan to nan"),
    "16 bits": (FULL.astype(np.uint16), "type: image = (image // 256).astype(np.uint8)"),
    "int64": (FULL.astype(np.int64), "type: image = image.astype(np.uint8)"),
    "bool": (FULL > 0, "type: image = 255 * image.astype(np.uint8)"),
    "grey": (
        noise(40, 60),
        "image[..., None] for one grey channel, or worldmodel.fit_image(",
    ),
    "channels first": (noise(3, 40, 60), "come first; type: image = image.transpose(1, 2, 0)"),
    "a batch": (noise(2, 4, 6, 3), "expected uint8 [H, W, C], got uint8 [2, 4, 6, 3]"),
    "no pixels": (noise(0, 6, 3), "it has no pixels"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_image_is_refused_with_the_line_to_type(kind: str) -> None:
    given, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=r"^image: ") as no:
        fit_image(given)
    assert sentence in str(no.value)


def test_a_line_to_type_makes_an_image() -> None:
    for image in (np.full((4, 6, 3), 0.5), noise(3, 40, 60), noise(40, 60), noise(4, 6, 3) > 9):
        with pytest.raises(ValueError, match="type: image = ") as no:
            fit_image(image)
        line = str(no.value).split("type: image = ")[1].split(" for one grey")[0]
        names = {"np": np, "worldmodel": worldmodel, "image": image}
        assert fit_image(eval(line, names)).shape[:2] == (64, 64)


def test_a_pillow_image_of_another_mode_says_how_to_convert_it() -> None:
    pillow = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match=r'of mode RGBA; type: image = image.convert\("RGB"\)'):
        fit_image(pillow.fromarray(noise(4, 6, 4)))


def test_wrong_settings_of_a_fit_are_refused() -> None:
    image = noise(4, 6, 3)
    for wrong, said in (
        ({"fit": "zoom"}, "fit: expected one of stretch, crop, pad; got 'zoom'"),
        ({"size": 0}, "size: expected a whole number from 1 on, got 0"),
        ({"order": "GBR"}, "order: expected RGB or BGR, got 'GBR'"),
        ({"channels": 4}, r"expected uint8 \[H, W, 4\], got uint8 \[4, 6, 3\]"),
    ):
        with pytest.raises(ValueError, match=said):
            fit_image(image, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"type: image = image\[..., :3\]"):
        fit_image(noise(4, 6, 4), channels=3)
    with pytest.raises(ValueError, match="BGR has three channels"):
        fit_image(noise(4, 6, 1), order="BGR")


# --- the images of a run's cameras -------------------------------------------------------------

RAW = (48, 64, 3)
ONE = ImageFit((16, 16, 3), "crop", {"image": RAW})
TWO = ImageFit((16, 16, 4), "pad", {"wrist": (24, 32, 3), "front": (20, 20, 1)})


def test_an_image_is_fitted_as_in_training_and_a_fitted_one_stays() -> None:
    image = noise(*RAW)
    fitted = ONE(image)
    assert np.array_equal(fitted, fit_image(image, 16, "crop"))
    assert ONE(fitted) is fitted
    assert np.array_equal(ONE({"image": image}), fitted)
    half = noise(24, 32, 3)  # another resolution of the same picture
    assert np.array_equal(ONE(half), fit_image(half, 16, "crop"))


def test_cameras_are_joined_in_the_order_of_their_names() -> None:
    wrist, front = noise(24, 32, 3), noise(20, 20, 1)
    joined = TWO({"wrist": wrist, "front": front})
    assert np.array_equal(joined[..., :1], fit_image(front, 16, "pad"))
    assert np.array_equal(joined[..., 1:], fit_image(wrist, 16, "pad"))
    assert TWO(joined) is joined


def test_stacked_images_of_cameras_hold_each_moment_together() -> None:
    fit = ImageFit((8, 8, 8), "stretch", {"a": (8, 8, 3), "b": (8, 8, 1)}, frames=2)
    a, b = noise(8, 8, 6), noise(8, 8, 2)
    stacked = fit({"a": a, "b": b})
    expected = [a[..., :3], b[..., :1], a[..., 3:], b[..., 1:]]
    assert np.array_equal(stacked, np.concatenate(expected, -1))
    side_by_side = shown(stacked, 2, fit.cameras)
    assert np.array_equal(side_by_side[:, :8], a[..., 3:])
    assert np.array_equal(side_by_side[:, 8:], b[..., 1:].repeat(3, -1))


@pytest.mark.parametrize(
    ("fit", "given", "said"),
    [
        (
            ONE,
            noise(36, 64, 3),
            r"image: expected uint8 \[48, 64, 3\], got uint8 \[36, 64, 3\]; it",
        ),
        (ONE, noise(48, 64, 4), r"a fourth channel; .* image\[..., :3\]"),
        (ONE, noise(48, 64, 1), r"grey; .* worldmodel.fit_image\(image, channels=3\)"),
        (ONE, noise(48, 64, 3) / 255, r"image: expected uint8 \[48, 64, 3\], got float64"),
        (TWO, {"front": noise(20, 20, 1)}, "image: expected front, wrist; got front"),
        (TWO, noise(24, 32, 3), r"expected a dict of front, wrist, or uint8 \[16, 16, 4\]; got"),
        (
            TWO,
            {"front": None, "wrist": noise(24, 32, 3)},
            "front: expected a numpy array",
        ),
        (
            ImageFit((16, 16, 3)),
            noise(20, 30, 3),
            r"uint8 \[16, 16, 3\], got uint8 \[20, 30",
        ),
    ],
    ids=str,
)
def test_another_picture_than_in_training_is_refused(fit: ImageFit, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit(given)


def test_the_line_of_a_refused_aspect_fits_it_all_the_same() -> None:
    image = noise(36, 64, 3)
    with pytest.raises(ValueError, match="type: image = ") as no:
        ONE(image)
    line = str(no.value).split("type: image = ")[1]
    assert np.array_equal(
        ONE(eval(line, {"worldmodel": worldmodel, "image": image})), fit_image(image, 16, "crop")
    )


def test_the_file_works_alone_and_names_itself(tmp_path: Path) -> None:
    """It travels with an exported agent, where worldmodel may be absent."""
    copied = tmp_path / "carried.py"
    copied.write_bytes(Path(images.__file__).read_bytes())
    spec = importlib.util.spec_from_file_location("carried", copied)
    assert spec is not None
    assert spec.loader is not None
    alone = importlib.util.module_from_spec(spec)
    sys.modules["carried"] = alone
    try:
        spec.loader.exec_module(alone)
        assert np.array_equal(
            alone.fit_image(noise(48, 80, 3), 32), fit_image(noise(48, 80, 3), 32)
        )
        with pytest.raises(ValueError, match=r"carried.fit_image\(image, channels=3\)"):
            alone.fit_image(noise(48, 80))
    finally:
        del sys.modules["carried"]
