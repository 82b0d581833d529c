"""Pixels: the only place where the bytes of images become floats, and floats become bytes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The reconstruction loss, in nats, of drawing the mean image in place of the right one. It is the
# same for every task, so that a thin pole counts as much as a large walker. At 100 the latents of
# cartpole held nothing after 600 updates (assets/trials/model_trials.csv). Not studied carefully.
ENERGY = 800.0


class Pixels(nn.Module):
    """Images as the inputs and targets of networks: ``(x - mean) * scale``, x in [0, 1].

    ``mean`` and ``scale`` start as PlaNet's (one half, one). ``fit`` replaces them by the mean
    image of the seed episodes, and by the scale at which drawing that mean image costs ENERGY: the
    decoder then only has to draw what moves.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, channels: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("mean", torch.full((size, size, channels), 0.5))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        """[..., H, W, C] uint8 -> [..., C, H, W], a view whose memory still has C last"""
        levels = image.float()
        if self.bits < 8:  # a division, because a bit shift of bytes is another one once exported
            levels.div_(2 ** (8 - self.bits)).floor_()
        pixels = levels.mul_(self.scale / (2**self.bits - 1)).sub_(self.mean * self.scale)
        return pixels.movedim(-1, -3)

    def dither(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Add uniform noise inside each level's bin, so that a density over levels makes sense.

        The noise is one of 256 numbers. Eight pixels share one random number of 64 bits, because
        drawing random numbers takes most of the time.
        """
        numbers = torch.empty(pixels.numel() // 8, dtype=torch.int64, device=pixels.device)
        place = numbers.random_(-(2**63), None, generator=generator).view(torch.uint8)
        place = place.reshape(pixels.movedim(-3, -1).shape).movedim(-1, -3).float()
        width = self.scale / 2**self.bits
        return torch.addcmul(pixels, place.add_(0.5 - 128), width / 256)

    def to_bytes(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., H, W, C] uint8"""
        levels = pixels.float().movedim(-3, -1) / self.scale + self.mean
        return (levels * 255).round().clamp(0, 255).byte()

    def to_shares(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> the same image with colours from 0 to 1"""
        return pixels / self.scale + self.mean.movedim(-1, 0)

    def of_shares(self, shares: Tensor) -> Tensor:
        """Colours from 0 to 1 [..., C, H, W] -> pixels"""
        return (shares - self.mean.movedim(-1, 0)) * self.scale

    def fit(self, images: Tensor) -> None:
        """Learn mean and scale from [M, H, W, C] bytes."""
        x = images.float() / 255
        self.mean.copy_(x.mean(0))
        energy = (x - self.mean).square().sum((1, 2, 3)).mean()
        self.scale.copy_((ENERGY / energy.clamp(min=1e-3)).sqrt())
