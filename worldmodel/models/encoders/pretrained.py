"""A pretrained encoder: a masked autoencoder whose weights a new run copies from a pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodel.models.encoders.masked import MaskedEncoder, MaskedSettings


@dataclass(frozen=True)
class PretrainedSettings:
    kind: Literal["pretrained"] = "pretrained"
    run: str = ""
    """Folder of the pretraining (worldmodel pretrain) whose encoder and mean image a new run begins
    with. They are copied: later the folder is not read."""
    frozen: bool = True
    """Whether the encoder stays as it came. false: it learns on with the world model."""
    net: MaskedSettings = MaskedSettings()

    @property
    def offers(self) -> frozenset[str]:
        return frozenset() if self.frozen else self.net.offers

    def wrong_size(self, size: int) -> str:
        """Which sizes it takes, if ``size`` is not one of them; else empty."""
        return self.net.wrong_size(size)

    def build(self, size: int, channels: int) -> MaskedEncoder:
        """Its weights are random until the pretraining's are loaded."""
        return self.net.build(size, channels).requires_grad_(not self.frozen)
