"""Compress the weights of exported graphs to 8 bits.

Activations stay float32, so the graph needs no calibration; only the weights are rounded. Quantised
activations would make small products slower on a CPU, and would change every belief. Zeros stay
zero, and take no space in a zipped file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldmodel.quantise import quantised

if TYPE_CHECKING:
    from onnx import ModelProto

SMALLEST_WEIGHT = 256  # elements; below it the scales and the node take more bytes than are saved


def compress(model: ModelProto) -> ModelProto:
    """Copy a graph; products and convolutions of the copy have 8-bit weights."""
    import onnx
    from onnx import helper, numpy_helper

    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    axes = compressible(smaller)
    first = []
    for tensor in list(smaller.graph.initializer):
        if tensor.name not in axes:
            continue
        integers, scale = quantised(numpy_helper.to_array(tensor), axes[tensor.name])
        stored, scales = f"{tensor.name}.int8", f"{tensor.name}.scale"
        first.append(
            helper.make_node(
                "DequantizeLinear",
                [stored, scales],
                [tensor.name],
                axis=axes[tensor.name],
            )
        )
        smaller.graph.initializer.remove(tensor)
        smaller.graph.initializer.append(numpy_helper.from_array(integers, stored))
        smaller.graph.initializer.append(numpy_helper.from_array(scale, scales))
    nodes = [*first, *smaller.graph.node]
    smaller.graph.ClearField("node")
    smaller.graph.node.extend(nodes)
    onnx.checker.check_model(smaller)
    return smaller


def compressible(model: ModelProto) -> dict[str, int]:
    """The weights of products and convolutions by name, each with the axis of its outputs."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    axes: dict[str, int] = {}
    transposed = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose"}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm") or len(node.input) < 2:
            continue
        name, last = node.input[1], len(shapes.get(node.input[1], ())) - 1
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        if name in transposed:
            name, turned = transposed[name], True
        if name in shapes and np.prod(shapes[name]) >= SMALLEST_WEIGHT:
            axes[name] = 0 if turned or node.op_type == "Conv" else last
    return axes
