"""From an image to an embedding.

In ours no activation is ever larger than a quarter of the image's side: on a CPU the wide, thin
first layers of the usual four-layer stack cost more than all others together. And none is
normalised: the image is mostly its own mean, and dividing what is next to nothing by its size
hides what moves (on cartpole the slim encoder's reconstruction error after 600 updates was 5.4
without, and 7.1 to 8.3 with LayerNorm over channels at neighbouring settings:
assets/model_trials.csv).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.models.fast.convolutions import FewWindows, Patches, Windowed


class PatchEncoder(nn.Module):
    """Patches of 4x4 pixels, two convolutions of 3x3 with strides of two, then one product."""

    embed_size = 256

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.net = nn.Sequential(
            Patches(channels, widths[0], 4), nn.SiLU(),
            nn.Conv2d(widths[0], widths[1], 3, 2, 1), nn.SiLU(),
            nn.Conv2d(widths[1], widths[2], 3, 2, 1), nn.SiLU(),
        )  # fmt: skip
        self.last = nn.Linear(widths[2] * (size // 16) ** 2, self.embed_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        hidden: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        embed: Tensor = self.last(hidden.movedim(1, -1).flatten(1))  # as it lies in memory
        return embed.reshape(*pixels.shape[:-3], self.embed_size)


class SlimEncoder(nn.Module):
    """Three convolutions, the first one of 8x8 with strides of four, then one product."""

    embed_size = 256

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (2 * width, 4 * width, 8 * width)
        self.net = nn.Sequential(
            nn.Conv2d(channels, widths[0], 8, 4, 2), nn.SiLU(),
            nn.Conv2d(widths[0], widths[1], 4, 2, 1), nn.SiLU(),
            nn.Conv2d(widths[1], widths[2], 4, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(widths[2] * (size // 16) ** 2, self.embed_size),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        embed: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        return embed.reshape(*pixels.shape[:-3], self.embed_size)


class PlanetEncoder(nn.Module):
    """Four bare convolutions without padding: 64 -> 31 -> 14 -> 6 -> 2 (PlaNet's, 64x64 only)."""

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        self.net = nn.Sequential(
            nn.Conv2d(widths[0], widths[1], 4, 2), nn.ReLU(),
            nn.Conv2d(widths[1], widths[2], 4, 2), nn.ReLU(),
            Windowed(widths[2], widths[3], 4), nn.ReLU(),
            FewWindows(widths[3], widths[4], 4), nn.ReLU(),
        )  # fmt: skip
        self.embed_size = widths[-1] * 2 * 2

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., E]"""
        hidden: Tensor = self.net(pixels.reshape(-1, *pixels.shape[-3:]))
        return hidden.reshape(*pixels.shape[:-3], self.embed_size)


@torch.no_grad()
def amplify(encoder: nn.Module, gain: float) -> None:
    """What activations take from the size of a signal, larger first weights give back."""
    for layer in encoder.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.mul_(gain)
