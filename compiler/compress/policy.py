"""Which nodes of a float model run in int8."""

import math

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators.nodes import row_of
from edgec.compiler.operators.row import OnnxOperator


def rule(node: onnx_ir.Node) -> OnnxOperator | None:
    """Return the row by which edgec chooses a node's scales, None where it stays in float."""
    row = row_of(node)
    return row if row is not None and row.quantized and row.refuses(node) is None and finite(node) else None


def is_product(node: onnx_ir.Node) -> bool:
    """Whether a node is of an operator that multiplies activations by weights, and edgec quantizes it."""
    row = row_of(node)
    return row is not None and row.quantized and row.role == "product"


def dense(node: onnx_ir.Node) -> bool:
    """Whether a product computes one number of each output channel, so that it reads every weight once."""
    weights, shape = constant(node.inputs[1]), shape_of(node.outputs[0])
    assert weights is not None, "a product's weights are constant"
    return shape is not None and math.prod(shape) == len(weights) and attribute(node, "group", 1) == 1


def activations(node: onnx_ir.Node, row: OnnxOperator) -> list[onnx_ir.Value] | None:
    """Return the inputs that carry data (not weights, shapes or limits); None if one is no float32."""
    if row.role in ("bilinear", "binary", "concat", "recurrent"):
        values = [reader.inputs[index] for reader, index in row.inputs(node)]
        values = [value for value in values if constant(value) is None]
    else:
        values = list(node.inputs[:1])
    found = [value for value in values if value is not None and value.dtype == onnx_ir.DataType.FLOAT]
    if not found or len(found) != len(values) or any(shape_of(value) is None for value in found):
        return None
    if row.role == "concat" and len(found) != len(node.inputs):
        return None
    if any(0 in (shape_of(value) or ()) for value in [*found, *node.outputs]):
        return None
    return found


def finite(node: onnx_ir.Node) -> bool:
    """Whether the node's float constants are all finite: infinities have no int8 form."""
    arrays = [constant(value) for value in node.inputs]
    floats = [array for array in arrays if array is not None and array.dtype.kind == "f"]
    row = row_of(node)
    return (row is not None and row.clamps) or all(np.all(np.isfinite(array)) for array in floats)
