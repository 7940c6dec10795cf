"""What passes of the frontend establish for those behind them."""

import onnx_ir

from edgec.compiler.graph import attribute, shape_of
from edgec.compiler.operators.product_form import folded_gemm, output_axis, unscaled
from edgec.compiler.passes import Fact

MINIMUM_OPSET = 13
"""The first whose DequantizeLinear has an axis, as per-channel weights need."""


def _old(graph: onnx_ir.Graph) -> str | None:
    opset = graph.opset_imports.get("", 0)
    return None if opset >= MINIMUM_OPSET else f"the opset is {opset}"


OPSET = Fact(f"the opset is {MINIMUM_OPSET} or later", _old)

WINDOWED = ("Conv", "MaxPool", "AveragePool")
"""Operators whose auto_pad becomes pads; ConvTranspose keeps its own."""


def kernel_of(node: onnx_ir.Node) -> list[int] | None:
    """Return the extents of the window of a node of these operators, None where they aren't known."""
    kernel: list[int] | None = attribute(node, "kernel_shape", None)
    if kernel is None and node.op_type == "Conv" and node.inputs[1] is not None:
        weights = shape_of(node.inputs[1])
        return list(weights[2:]) if weights else None
    return kernel


def _automatic(graph: onnx_ir.Graph) -> str | None:
    for node in graph:
        if node.op_type not in WINDOWED or node.domain or "auto_pad" not in node.attributes:
            continue
        if (
            node.inputs[0] is not None
            and shape_of(node.inputs[0]) is not None
            and kernel_of(node) is not None
        ):
            return f"node '{node.name}' ({node.op_type}) has auto_pad"
    return None


EXPLICIT_PADS = Fact(
    "windows of known extents over images of known extents have pads, not auto_pad", _automatic
)


def _other_gemm(graph: onnx_ir.Graph) -> str | None:
    for node in graph:
        if node.op_type != "Gemm" or node.domain or (unscaled(node) and output_axis(node) == 0):
            continue
        if folded_gemm(node) is not None:
            return f"node '{node.name}' isn't so"
    return None


ONE_GEMM = Fact(
    "a Gemm by finite constants, with one bias per column, has alpha, beta and transB of 1", _other_gemm
)
