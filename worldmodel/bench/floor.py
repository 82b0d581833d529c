"""The lower bound of a time: operations, divided by the rate of this machine's matrix product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.bench.measure import Effort, interleave
from worldmodel.machine import compute_dtype
from worldmodel.models.fast.onednn import has_onednn

SIZE = 1024  # side of the matrices: 2 GFLOP a product, and they fit into the cache of a core
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def precisions() -> dict[torch.dtype, str]:
    """The precisions that this processor has instructions for; others are many times slower."""
    has_bfloat16 = compute_dtype("auto", torch.device("cpu")) == torch.bfloat16
    return NAMES if has_bfloat16 else {torch.float32: NAMES[torch.float32]}


def product_rates(repetitions: int, size: int = SIZE) -> dict[torch.dtype, float]:
    """Operations a second by precision, with torch's present number of threads.

    The fastest library of torch counts: on some machines float32 is twice as fast with oneDNN as
    with the library of a plain ``a @ b``. The fastest repetition counts, because the rate is used
    as a bound.
    """
    works: dict[str, Callable[[], Tensor]] = {}
    for dtype, name in precisions().items():
        a, b = torch.randn(2, size, size).to(dtype)
        works[f"{name} product"] = partial(torch.matmul, a, b)
        if has_onednn(dtype):
            laid_out = torch.ops.mkldnn._reorder_linear_weight(b, None)
            multiply = torch.ops.mkldnn._linear_pointwise
            works[f"{name} oneDNN"] = partial(multiply, a, laid_out, None, "none", [], "")
    with torch.no_grad():
        times = interleave(works, Effort(repetitions))
    best = {name: float(each.min()) for name, each in times.items()}
    return {
        dtype: 2e3 * size**3 / min(ms for way, ms in best.items() if way.startswith(name))
        for dtype, name in precisions().items()
    }


def operations(work: Callable[[], object]) -> int:
    """Count the multiplications and additions of products and convolutions, backward passes too."""
    packed_linear = torch.ops.mkldnn._linear_pointwise
    with FlopCounterMode(display=False, custom_mapping={packed_linear: _linear}) as counter:
        work()
    return int(counter.get_total_flops())


def _linear(x: torch.Size, weight: torch.Size, *rest: object, **named: object) -> int:
    rows = 1
    for length in x[:-1]:
        rows *= length
    return 2 * rows * weight[0] * weight[1]
