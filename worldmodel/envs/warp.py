"""A renderer without OpenGL: mujoco-warp traces rays, on the processor too."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.marks import Marks

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class Look:
    """How the scene is drawn, chosen by measurement: ``python -m worldmodel.bench.renderers``.

    One ray a pixel samples one point of a texture where OpenGL averages, so stars flicker and
    edges crawl. Averaging the textures once, before the first image, helps more than four rays a
    pixel, and costs nothing later.
    """

    sky_pixels: float = 2.0  # the sky's texture is averaged over so many pixels
    # A floor's square has 300 texels; it is averaged over so many. 4 to 16 are equally good.
    floor_texels: int = 8
    # The least width of a rod, in pixels. Rays miss what is thinner than their spacing: cartpole's
    # rail, a string. At exactly 1 rounding breaks the rail into dashes; at 1.25 it covers two lines
    # of pixels and is too bright.
    least_pixels: float = 1.02
    # Specular light on reflecting floors. OpenGL computes light at the corners of a floor's
    # squares, where a lamp's reflection never falls.
    glints: bool = False
    shadows: bool = True
    # Shadows of a lamp that stands behind the camera, in its line of sight, as a flash does: the
    # object that casts such a shadow hides it nearly everywhere (reacher_easy, point_mass:
    # assets/bench/render_shadows.csv).
    hidden_shadows: bool = False
    sky: bool = True


DEFAULT_LOOK = Look()

_MOVING = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")


class Warp:
    """Draws the positions that dm_control's physics holds, without stepping it.

    numpy shares the memory of warp's arrays, so an image costs a copy of the positions, a refit of
    the bounding volumes, and the rays. Reflections and skins are not drawn. A rod so thin that
    rays could miss it is drawn wider.
    """

    name = "warp"

    def __init__(
        self, physics: Any, camera: int, image_size: int, samples: int, look: Look = DEFAULT_LOOK
    ) -> None:
        self._warp, self._mujoco_warp = _import_warp()
        self._physics = physics
        self._camera, self._size, self._samples = camera, image_size, samples
        self._look = look
        self._marks = Marks(physics)
        self._terrain = physics.model.hfield_data.copy()
        _announce_compiling(self._warp)
        self._build()

    def _build(self) -> None:
        model = copy.copy(self._marks.model)
        model.hfield_data[:] = self._terrain
        sky_texels = _sky_texels_a_pixel(model, self._camera, self._size)
        sky_span = round(self._look.sky_pixels * sky_texels)
        _soften_textures(model, sky_span, self._look.floor_texels)
        if not self._look.glints:
            model.mat_specular[model.mat_reflectance > 0] = 0
        if not self._look.hidden_shadows:
            model.light_castshadow[_flashes(model, self._camera)] = False
        with self._warp.ScopedDevice("cpu"), _without_nans(self._warp.config):
            import mujoco

            self._model = self._mujoco_warp.put_model(model)
            self._data = self._mujoco_warp.put_data(model, mujoco.MjData(model))
            self._context = self._mujoco_warp.create_render_context(
                model,
                cam_res=(self._size, self._size),
                render_rgb=True,
                cam_active=[self._camera],
                use_shadows=self._look.shadows,
                render_skybox=self._look.sky,
                samples_per_pixel=self._samples,
            )
            self._draw()  # compiles the kernels, which cannot be done while recording
            with self._warp.ScopedCapture(device="cpu") as recorded:
                self._draw()
        self._recorded = recorded.graph
        self._moving = {name: getattr(self._data, name).numpy()[0] for name in _MOVING}
        self._geom_size = self._model.geom_size.numpy()[0]  # [geoms, 3]
        self._geom_rgba = self._model.geom_rgba.numpy()[0]  # [geoms, 4]
        self._mat_rgba = self._model.mat_rgba.numpy()[0]  # [materials, 4]
        packed = self._context.rgb_data.numpy().view(np.uint8)  # B, G, R, A
        self._pixels = packed.reshape(self._size, self._size, 4)[..., 2::-1]

    def start(self) -> None:
        """Copy the colours and sizes of a new episode; build again if the terrain changed."""
        model = self._physics.model
        if not np.array_equal(self._terrain, model.hfield_data):
            self._terrain = model.hfield_data.copy()
            self._build()
        self._mat_rgba[...] = model.mat_rgba
        self._geom_rgba[: model.ngeom] = model.geom_rgba
        self._geom_size[: model.ngeom] = self._widened(model.geom_size)
        if self._marks.count:
            self._geom_rgba[model.ngeom :] = self._marks.colours()

    def render(self) -> NDArray[np.uint8]:
        """[H, W, 3]"""
        data = self._physics.data
        for name, drawn in self._moving.items():
            now = getattr(data, name)
            drawn[: len(now)] = now.reshape(len(now), *drawn.shape[1:])
        if self._marks.count:
            place = self._moving["geom_xpos"], self._moving["geom_xmat"], self._geom_size
            centre = self._physics.model.stat.center
            self._marks.place(*place, least_width=self._least_width(centre))
        self._warp.capture_launch(self._recorded)
        image: NDArray[np.uint8] = self._pixels.copy()
        return image

    def _draw(self) -> None:
        """Refit and render. Recorded once, then replayed: that saves a fifth of an image's time."""
        self._mujoco_warp.refit_bvh(self._model, self._data, self._context)
        self._mujoco_warp.render(self._model, self._data, self._context)

    def close(self) -> None:
        """Nothing to release: warp's arrays are freed with this object."""

    def _least_width(self, point: NDArray[np.float64]) -> Any:
        """The least width in metres at a point [..., 3] that no ray misses."""
        distance = np.linalg.norm(point - self._physics.data.cam_xpos[self._camera], axis=-1)
        slope = np.tan(np.radians(self._physics.model.cam_fovy[self._camera]) / 2)
        pixel = 2 * distance * slope / (self._size * self._samples)
        return self._look.least_pixels * pixel

    def _widened(self, size: NDArray[np.float64]) -> NDArray[np.float64]:
        """[geoms, 3] sizes, with rods widened to the least width at their present place."""
        import mujoco

        rods = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
        is_rod = np.isin(self._physics.model.geom_type, rods)
        least = self._least_width(self._physics.data.geom_xpos) / 2
        widened = np.array(size)
        widened[:, 0] = np.where(is_rod, np.maximum(widened[:, 0], least), widened[:, 0])
        return widened


def _sky_texels_a_pixel(model: Any, camera: int, image_size: int) -> float:
    """Texels of the sky in the width of a pixel, in the middle of the image; 0 without a sky."""
    import mujoco

    sky = np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    if not len(sky):
        return 0.0
    return float(model.tex_width[sky[0]] / 90 * model.cam_fovy[camera] / image_size)


def _flashes(model: Any, camera: int) -> list[int]:
    """Fixed lamps behind a fixed camera that shine along its line of sight."""
    import mujoco

    still = mujoco.mjtCamLight.mjCAMLIGHT_FIXED
    if model.cam_bodyid[camera] != 0 or model.cam_mode[camera] != still:
        return []
    turned = np.empty(9)
    mujoco.mju_quat2Mat(turned, model.cam_quat[camera])
    sight = -turned[2::3]
    flashes = []
    for lamp in range(model.nlight):
        if model.light_type[lamp] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL:
            ray = model.light_dir[lamp]
        else:
            ray = model.cam_pos[camera] - model.light_pos[lamp]
        in_line = ray @ sight >= 0.9999 * np.linalg.norm(ray)
        if in_line and model.light_bodyid[lamp] == 0 and model.light_mode[lamp] == still:
            flashes.append(lamp)
    return flashes


def _soften_textures(model: Any, sky_texels: int, floor_texels: int) -> None:
    """Average each texel of the sky's six faces, and of flat textures, over a square around it."""
    import mujoco

    for index in range(model.ntex):
        start = model.tex_adr[index]
        height, width = model.tex_height[index], model.tex_width[index]
        texels = model.tex_data[start : start + height * width * model.tex_nchannel[index]]
        if model.tex_type[index] == mujoco.mjtTexture.mjTEXTURE_2D:
            faces, span = texels.reshape(1, height, width, -1), floor_texels
        else:
            faces, span = texels.reshape(-1, width, width, model.tex_nchannel[index]), sky_texels
        if span > 1:
            softer = _average(_average(faces.astype(np.float32), span, axis=1), span, axis=2)
            texels[:] = (softer + 0.5).astype(np.uint8).ravel()


def _average(values: NDArray[np.float32], span: int, axis: int) -> NDArray[np.float32]:
    """Moving average over ``span`` values along an axis; edges are repeated."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (span // 2 + 1, span - 1 - span // 2)
    total = np.pad(values, widths, mode="edge").cumsum(axis, dtype=np.float64)
    length = values.shape[axis]
    upper = np.take(total, range(span, span + length), axis)
    lower = np.take(total, range(length), axis)
    average: NDArray[np.float32] = ((upper - lower) / span).astype(np.float32)
    return average


def _import_warp() -> tuple[Any, Any]:
    """Import both modules silently: warp greets on stdout, and on stderr if there is no CUDA."""
    import warp

    warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
    with _silent_stderr():
        warp.init()
    import mujoco_warp

    return warp, mujoco_warp


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence compiled code, which does not write through Python's ``sys.stderr``."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def _without_nans(config: Any) -> Iterator[None]:
    """Compile kernels that assume no NaN, which no ray ever is.

    The minimum of two floats is then one instruction, and a ray needs it at each box that it
    passes: the same images to the bit in less time (assets/bench/render_compiled.csv).
    """
    before = config.cpu_compiler_flags
    flags = "-march=native" if before is None else before  # None means the same
    config.cpu_compiler_flags = f"{flags} -menable-no-nans -fno-signed-zeros -w"  # w: no warnings
    try:
        yield
    finally:
        config.cpu_compiler_flags = before


def _announce_compiling(warp: Any) -> None:
    """Log once a process, if the cache holds no kernel that draws."""
    folder = Path(warp.config.kernel_cache_dir)
    if not any(folder.glob("*render_megakernel*")) and not _announced:
        _announced.append(True)
        logger.warning(
            "warp compiles its kernels on first use, some seconds each; kept in %s", folder
        )


_announced: list[bool] = []
