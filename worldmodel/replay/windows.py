"""Windows: consecutive rows of episodes, stacked to a batch."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.structs import Batch, Episode


def cut(
    episodes: Sequence[Episode],
    begins: Sequence[tuple[int, int]],
    rows: int,
    image: NDArray[np.uint8] | None = None,
) -> Batch:
    """Cut windows of ``rows`` rows; rows after an episode's end are zeros, with ``valid`` False.

    ``begins``: for each window, the place of its episode in ``episodes`` and its first row.
    ``image``: an array [B, T, H, W, C] for the images.
    """
    shape = (len(begins), rows)
    first = episodes[begins[0][0]]
    if image is None:
        image = np.empty((*shape, *first.image.shape[1:]), np.uint8)  # [B, T, H, W, C]
    action = np.zeros((*shape, *first.action.shape[1:]), np.float32)  # [B, T, A]
    reward = np.zeros(shape, np.float32)
    discount = np.ones(shape, np.float32)
    valid = np.zeros(shape, np.bool_)
    vectors = {
        name: np.zeros((*shape, *vector.shape[1:]), np.float32)
        for name, vector in first.vectors.items()
    }  # [B, T, V]
    for window, (place, begin) in enumerate(begins):
        episode, taken = episodes[place], slice(begin, begin + rows)
        length = len(episode.reward[taken])
        image[window, :length] = episode.image[taken]
        image[window, length:] = 0
        action[window, :length] = episode.action[taken]
        reward[window, :length] = episode.reward[taken]
        discount[window, :length] = episode.discount[taken]
        valid[window, :length] = True
        for name, vector in vectors.items():
            vector[window, :length] = episode.vectors[name][taken]
    return Batch(
        image=torch.from_numpy(image),
        action=torch.from_numpy(action),
        reward=torch.from_numpy(reward),
        discount=torch.from_numpy(discount),
        valid=torch.from_numpy(valid),
        vectors={name: torch.from_numpy(vector) for name, vector in vectors.items()},
    )


class Buffers:
    """Reused arrays for images, because fresh memory pages cost more than the copy into them.

    64 windows of 50 rows of 64x64x3: 2 ms reused, 6 ms fresh. A buffer is used again only when
    nothing refers to the lent array any more, views, slices and tensors of it included, so a batch
    stays valid as long as it is referenced.
    """

    def __init__(self) -> None:
        self._spare: deque[NDArray[np.uint8]] = deque(maxlen=2)  # no batch refers to these

    def borrow(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Lend an array with any content, which comes back with its last reference.

        A tensor of it refers to ``lent``, not to the buffer below it, and every view of the tensor
        refers to the tensor's storage: ``lent`` dies with the last of them, in any thread.
        """
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = np.empty(shape, np.uint8)
        if buffer.shape != shape:
            buffer = np.empty(shape, np.uint8)
        lent = buffer.view()
        weakref.finalize(lent, self._spare.append, buffer).atexit = False
        return lent
