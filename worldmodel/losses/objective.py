"""The objective: the terms that train the world model, and the one that prioritises replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodel.checks import require
from worldmodel.losses.discount import Discount
from worldmodel.losses.image import Image
from worldmodel.losses.kl import KL
from worldmodel.losses.reward import Reward
from worldmodel.losses.vectors import Vectors


@dataclass(frozen=True)
class Objective:
    """The sum of its terms, in this order; None leaves a term out."""

    kl: KL | None = KL()
    reward: Reward | None = Reward()
    discount: Discount | None = Discount()
    image: Image | None = Image()
    vectors: Vectors | None = Vectors()
    # The loss, by its name in metrics, that is each row's priority in replay; None: no preference.
    priority: (
        Literal["kl_dynamics", "kl_representation", "reward", "discount", "image", "vectors"] | None
    ) = "kl_dynamics"

    def check(self, path: str) -> None:
        if self.priority is not None:
            term = self.priority.split("_")[0]
            require(
                getattr(self, term) is not None,
                f"{path}.priority: {self.priority} is a loss of {path}.{term}, which is none; write"
                f" {path}.priority: none",
            )
