"""Image-space dynamics: the next image is the last one, moved by small kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.checks import at_least
from worldmodel.models.flow import flow_of, gather, move_marks
from worldmodel.models.latents import Scene
from worldmodel.models.layers import ConvGRUCell, Layers

MASK_WIDTH = 16  # channels of the layers that draw masks; not studied
STAY = 2.0  # the first logit of "nothing moves": most pixels of most images do not


@dataclass(frozen=True)
class MovingKernelsSettings:
    latent: ClassVar[str] = "scene"
    offers: ClassVar[frozenset[str]] = frozenset({"marks"})
    # Moving a difference from the mean image, or noise inside coarse colours, moves no picture.
    requires: ClassVar[dict[str, Any]] = {
        "model.decoder.kind": "itself",
        "model.mean_image": False,
        "model.image_bits": 8,
    }

    kind: Literal["moving_kernels"] = "moving_kernels"
    kernels: Annotated[int, at_least(1)] = 8
    """Kernels that move parts of the image, each one way. Larger: more parts that move differently,
    and slower."""
    reach: Annotated[int, at_least(1)] = 2
    """Pixels by which a row can move things at most: a kernel of 2 has 5x5 numbers. Larger: faster
    motion can be predicted, and everything is slower."""
    memory_size: Annotated[int, at_least(1)] = 16
    """Channels of the recurrent memory, which has a quarter of the image's side. Larger: slower,
    and more of the past can be kept, such as velocities."""

    def build(self, action_size: int, layers: Layers, image: tuple[int, int, int]) -> MovingKernels:
        return MovingKernels(self, action_size, image)


class MovingKernels(nn.Module):
    """The next image is a mixture of moved copies of the last one, and of new paint::

        image' = m_0 image + sum_k m_k (kernel_k * image) + m_paint paint
        marks' = (m_0 marks + sum_k m_k (kernel_k * marks)) / (1 - m_paint)

    Kernels are positive and sum to one, and so do the masks m at each pixel. ``marks`` are
    probability maps of pixels that somebody follows: the same kernels move them, and paint does
    not, because a pixel that was painted was nowhere before. Kernels, masks and paint come from a
    memory of past images and actions (a convolutional GRU), so a velocity can be known.

    The context of a row is the predicted scene. ``believe`` puts the seen image in the place of the
    predicted one, and keeps memory and marks: marks are carried by prediction, never tracked.
    After Finn and Levine 2017 (arXiv 1610.00696) and Ebert et al. 2018 (arXiv 1812.00568).
    """

    noise_size = 0

    def __init__(
        self, settings: MovingKernelsSettings, action_size: int, image: tuple[int, int, int]
    ) -> None:
        super().__init__()
        height, width, channels = image
        self.image_shape = channels, height, width
        self.kernels, self.memory_size = settings.kernels, settings.memory_size
        size, taps = settings.memory_size, (2 * settings.reach + 1) ** 2
        self.fine = nn.Sequential(nn.Conv2d(channels, MASK_WIDTH, 5, 2, 2), nn.SiLU())
        self.coarse = nn.Sequential(nn.Conv2d(MASK_WIDTH, size, 3, 2, 1), nn.SiLU())
        self.cell = ConvGRUCell(size + action_size, size)
        self.kernel_logits = nn.Sequential(
            nn.Linear(2 * size + action_size, 64), nn.SiLU(), nn.Linear(64, self.kernels * taps)
        )
        self.widen = nn.Conv2d(size, MASK_WIDTH, 3, 1, 1)
        self.draw = nn.Conv2d(2 * MASK_WIDTH, MASK_WIDTH, 3, 1, 1)
        # of 2x2 pixels: the logits of the masks (stay, kernels, paint), and the paint's colours
        self.masks = nn.Conv2d(MASK_WIDTH, 4 * (self.kernels + 2 + channels), 1)
        with torch.no_grad():
            bias = self.masks.bias
            assert bias is not None
            bias.zero_()[:4] = STAY

    @property
    def feature_size(self) -> int:
        return self.memory_size

    @property
    def context_size(self) -> int:
        return self.memory_size

    @property
    def statistics_size(self) -> int:
        channels, height, width = self.image_shape
        return channels * height * width

    def initial(self, *batch: int) -> Scene:
        """A grey picture without marks."""
        channels, height, width = self.image_shape
        zeros = next(self.parameters()).new_zeros
        grid = (-(-height // 4), -(-width // 4))
        return Scene(
            image=zeros(*batch, channels, height, width),
            memory=zeros(*batch, self.memory_size, *grid),
            marks=zeros(*batch, 0, height, width),
        )

    def remember(self, latent: Scene, action: Tensor) -> Scene:
        """[...], [..., A] -> the predicted scene [...]"""
        lead = latent.shape
        image, memory, marks = (
            part.reshape(lead.numel(), *part.shape[len(lead) :])
            for part in (latent.image, latent.memory, latent.marks)
        )
        fine = self.fine(image)
        seen = self.coarse(fine)
        action = action.reshape(len(image), -1).to(image)
        tiled = action[..., None, None].expand(-1, -1, *memory.shape[-2:])
        memory = self.cell(torch.cat([seen, tiled], 1), memory)
        kernels = self.kernels_of(memory, action)
        masks, paint = self.masks_of(image, fine, memory)
        flow = flow_of(masks[:, :-1], kernels)
        moved = gather(image, flow) + masks[:, -1:] * paint
        scene = Scene(moved, memory, move_marks(marks, flow))
        return Scene(*(part.reshape(*lead, *part.shape[1:]) for part in scene.parts))

    def mark(self, latent: Scene, pixels: Sequence[tuple[int, int]]) -> Scene:
        """Follow these pixels (row, column) from now on, and no others: a map with one 1 each."""
        marks = latent.image.new_zeros(*latent.shape, len(pixels), *latent.image.shape[-2:])
        for number, (row, column) in enumerate(pixels):
            marks[..., number, row, column] = 1.0
        return Scene(latent.image, latent.memory, marks)

    def kernels_of(self, memory: Tensor, action: Tensor) -> Tensor:
        """[M, M', h, w], [M, A] -> [M, K, k * k], each summing to one"""
        pooled = torch.cat([memory.mean((-1, -2)), memory.amax((-1, -2)), action], -1)
        logits: Tensor = self.kernel_logits(pooled)
        return logits.reshape(len(logits), self.kernels, -1).softmax(-1)

    def masks_of(self, image: Tensor, fine: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The masks [M, 1 + K + 1, H, W] (stay, kernels, paint) and the paint [M, C, H, W]"""
        height, width = image.shape[-2:]
        hidden = functional.interpolate(functional.silu(self.widen(memory)), size=fine.shape[-2:])
        hidden = functional.silu(self.draw(torch.cat([hidden, fine], 1)))
        drawn = functional.pixel_shuffle(self.masks(hidden), 2)[..., :height, :width]
        logits, paint = drawn.tensor_split([self.kernels + 2], 1)
        return logits.softmax(1), paint

    def imagine(self, context: Scene, noise: Tensor | None) -> Scene:
        return context

    def believe(self, context: Scene, statistics: Tensor, noise: Tensor | None) -> Scene:
        """[...], the seen image [..., C * H * W] -> [...]"""
        seen = statistics.reshape(context.image.shape)
        return Scene(seen, context.memory, context.marks)
